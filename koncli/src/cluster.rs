//! The cluster and the namespace that a command is about.
//!
//! May touch: kubeconfigs, `$HOME/.konductor/koncli.yaml`, the files of a `ServiceAccount`, the environment. What must stay true:
//! an explicit flag always wins; a file of the current folder decides nothing, so that a checked-out tree steers no command.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;

use crate::args::{Connection, Format};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What `$HOME/.konductor/koncli.yaml` may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    namespace: Option<String>,
    output: Option<Format>,
    /// The Go project had it; nothing is logged here.
    #[serde(rename = "log-level")]
    _log_level: Option<String>,
}

/// A way to a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Its client.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// Is it the cluster that this runs in?
    pub in_cluster: bool,
    /// How the user wants to see things, unless a flag says otherwise.
    pub output: Option<Format>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, and not in a pod.
    #[error(
        "no cluster is known: {0}; name one with --kubeconfig FILE, or set KUBECONFIG, or run inside of one with a \
         ServiceAccount"
    )]
    Unknown(String),
    /// The file of the user is wrong.
    #[error("{}: {problem}; it may have namespace, log-level and output", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// Finds it.
pub async fn connect(asked: &Connection) -> Result<Cluster, ClusterError> {
    let unknown = |error: &dyn std::error::Error| ClusterError::Unknown(error.to_string());
    let options = KubeConfigOptions { context: asked.context.clone(), ..KubeConfigOptions::default() };
    let explicit = asked.kubeconfig.is_some() || asked.context.is_some();
    let (config, by_context) = if let Some(path) = &asked.kubeconfig {
        let file = Kubeconfig::read_from(path).map_err(|error| unknown(&error))?;
        (Config::from_custom_kubeconfig(file, &options).await.map_err(|error| unknown(&error))?, true)
    } else if explicit || std::env::var_os("KUBECONFIG").is_some() {
        (Config::from_kubeconfig(&options).await.map_err(|error| unknown(&error))?, true)
    } else {
        match Config::incluster() {
            Ok(config) => (config, false),
            Err(_) => (Config::from_kubeconfig(&options).await.map_err(|error| unknown(&error))?, true),
        }
    };
    let in_cluster = !by_context;
    let context = by_context.then(|| config.default_namespace.clone());
    let file = file()?;
    let output = file.output;
    let namespace = namespace(asked, explicit, context, file);
    let client = Client::try_from(config).map_err(|error| unknown(&error))?;
    Ok(Cluster { client, namespace, in_cluster, output })
}

/// Flag, our variables, the user's file, the context that was named, the pod, the context of the kubeconfig.
fn namespace(asked: &Connection, explicit: bool, context: Option<String>, file: File) -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(namespace) = asked.namespace.clone() {
        return namespace;
    }
    if let Some(namespace) = variable("KONCLI_NAMESPACE").or_else(|| variable("KONDUCTOR_NAMESPACE")) {
        return namespace;
    }
    if let Some(namespace) = file.namespace {
        return namespace;
    }
    if let Some(namespace) = context.clone().filter(|_| explicit) {
        return namespace;
    }
    let of_pod = std::fs::read_to_string(SERVICE_ACCOUNT).ok().map(|text| text.trim().to_owned());
    of_pod
        .or_else(|| variable("POD_NAMESPACE"))
        .or_else(|| variable("NAMESPACE"))
        .or(context)
        .unwrap_or_else(|| "default".to_owned())
}

fn file() -> Result<File, ClusterError> {
    let Some(home) = std::env::var_os("HOME") else { return Ok(File::default()) };
    let path = Path::new(&home).join(".konductor/koncli.yaml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(File::default()) };
    serde_saphyr::from_str(&text).map_err(|error| ClusterError::File {
        path,
        problem: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}
