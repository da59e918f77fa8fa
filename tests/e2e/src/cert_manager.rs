//! cert-manager, as processes of this machine beside the cluster: its controller, and its injector of CAs.
//!
//! May touch: its definitions, and what it makes of the objects that the test creates. What must stay true: both processes end
//! with the value, and the definitions go with [`CertManager::remove`].

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

use crate::cluster::{from_environment, kubeconfig};
use crate::product::NAMESPACE;
use crate::tools::kubectl_with;

/// See the module.
#[derive(Debug)]
pub struct CertManager {
    definitions: String,
    _processes: Vec<Child>,
}

impl CertManager {
    /// Applies the definitions and starts both.
    pub async fn start() -> Result<Self> {
        let folder = from_environment("KONDUCTOR_E2E_CERT_MANAGER_CRDS")?;
        let definitions = definitions(&folder).with_context(|| format!("reading {}", folder.display()))?;
        let apply = ["apply", "--server-side", "--filename", "-"];
        apply_or_delete(&apply, &definitions).await?;
        let programs = from_environment("KONDUCTOR_E2E_CERT_MANAGER")?;
        let controller = start(
            &programs.join("controller"),
            &["--metrics-listen-address=127.0.0.1:0", &format!("--cluster-resource-namespace={NAMESPACE}")],
        )?;
        let injector = start(&programs.join("cainjector"), &[])?;
        Ok(Self { definitions, _processes: vec![controller, injector] })
    }

    /// Removes the definitions, and with them all objects of their kinds.
    pub async fn remove(self) -> Result<()> {
        apply_or_delete(&["delete", "--ignore-not-found", "--filename", "-"], &self.definitions).await
    }
}

fn start(program: &Path, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig()?).arg("--leader-elect=false").args(arguments);
    command.env_remove("KUBECONFIG").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("starting {}", program.display()))
}

async fn apply_or_delete(arguments: &[&str], definitions: &str) -> Result<()> {
    let said = kubectl_with(NAMESPACE, arguments, definitions).await?;
    anyhow::ensure!(said.success, "kubectl {}: {}", arguments.join(" "), said.err);
    Ok(())
}

/// As they stand in cert-manager's source: parts of a chart, of which only labels are templates.
fn definitions(folder: &Path) -> Result<String> {
    let mut all = String::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path)?;
            let plain = text.lines().filter(|line| !line.contains("{{"));
            all.push_str("---\n");
            all.extend(plain.flat_map(|line| [line, "\n"]));
        }
    }
    Ok(all)
}
