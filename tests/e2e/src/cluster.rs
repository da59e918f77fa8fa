//! Which cluster is tested.
//!
//! Reads the environment that `cargo xtask test` sets. The kubeconfig of the shell is never taken: tests must not land
//! on somebody's production.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

const KUBECONFIG: &str = "KONDUCTOR_E2E_KUBECONFIG";

/// Where the kubeconfig of the cluster under test is.
pub fn kubeconfig() -> Result<PathBuf> {
    from_environment(KUBECONFIG)
}

/// A path that `cargo xtask test` hands over.
pub(crate) fn from_environment(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).with_context(|| {
        format!("{variable} is not set: run the tests of the cluster with `cargo xtask test`")
    })
}

/// A client with the rights of an administrator.
pub async fn connect() -> Result<Client> {
    // The second test of a process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let path = kubeconfig()?;
    let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("reading {}", path.display()))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
