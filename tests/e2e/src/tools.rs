//! kubectl, helm and koncli, as a user has them.
//!
//! Runs the programs that `cargo xtask test` names, on the cluster under test and no other.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cluster::{from_environment, kubeconfig};
use crate::namespace::Namespace;

/// What a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Did it end with 0?
    pub success: bool,
    /// With what it ended, if by itself.
    pub code: Option<i32>,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

/// `kubectl -n NAMESPACE ARGUMENTS`; that it fails is an error.
pub async fn kubectl(namespace: &str, arguments: &[&str]) -> Result<Said> {
    kubectl_with(namespace, arguments, "").await?.expect_success("kubectl", arguments)
}

/// The same with something on standard input; it may fail.
pub async fn kubectl_with(namespace: &str, arguments: &[&str], input: &str) -> Result<Said> {
    let mut command = Command::new(from_environment("KONDUCTOR_E2E_KUBECTL")?);
    command.arg("--kubeconfig").arg(kubeconfig()?).args(["--namespace", namespace]).args(arguments);
    say(command, input).await
}

/// `helm --namespace NAMESPACE ARGUMENTS`; that it fails is an error.
pub async fn helm(namespace: &str, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(from_environment("KONDUCTOR_E2E_HELM")?);
    command.arg("--kubeconfig").arg(kubeconfig()?).args(["--namespace", namespace]).args(arguments);
    // The context of the shell must not decide where this lands.
    for variable in ["HELM_KUBECONTEXT", "HELM_NAMESPACE", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN"] {
        command.env_remove(variable);
    }
    say(command, "").await?.expect_success("helm", arguments)
}

/// `koncli ARGUMENTS` in that namespace; it may fail.
pub async fn koncli(namespace: &str, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(from_environment("KONDUCTOR_E2E_KONCLI")?);
    command.args(arguments).env("KONCLI_NAMESPACE", namespace).env("KUBECONFIG", kubeconfig()?);
    say_with_kubeconfig(command, "").await
}

/// What it writes to standard output; it must end with 0.
pub async fn koncli_done(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let said = koncli(namespace.name(), arguments).await?;
    ensure!(said.code == Some(0), "koncli {}: {said:?}", arguments.join(" "));
    Ok(said.out)
}

/// It must end with that code, say those words, and write nothing to standard output.
pub async fn koncli_ends(namespace: &Namespace, arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let said = koncli(namespace.name(), arguments).await?;
    let right = said.code == Some(code) && said.err.contains(words) && said.out.is_empty();
    ensure!(right, "koncli {}: {code} and {words:?} expected of {said:?}", arguments.join(" "));
    Ok(())
}

/// koncli, to be started by the caller, as whoever that kubeconfig says.
pub fn koncli_command(namespace: &str, kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(from_environment("KONDUCTOR_E2E_KONCLI")?);
    command.env("KONCLI_NAMESPACE", namespace).env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    Ok(command)
}

/// The program itself.
pub fn koncli_program() -> Result<PathBuf> {
    from_environment("KONDUCTOR_E2E_KONCLI")
}

/// The image of koncli, as a pod names it.
pub fn koncli_image() -> Result<String> {
    std::env::var("KONDUCTOR_E2E_KONCLI_IMAGE")
        .context("KONDUCTOR_E2E_KONCLI_IMAGE is not set: use `cargo xtask test`")
}

/// The kubeconfig of the cluster under test, changed.
pub fn kubeconfig_with(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Result<PathBuf> {
    let mut config: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig()?)?)?;
    change(&mut config);
    let file = std::env::temp_dir().join(format!("konductor-e2e-{name}.kubeconfig"));
    std::fs::write(&file, config.to_string())?;
    Ok(file)
}

/// The same as whoever has that token.
pub async fn koncli_as(namespace: &str, token: &str, arguments: &[&str]) -> Result<Said> {
    let file = kubeconfig_with(namespace, |config| {
        config["users"][0]["user"] = serde_json::json!({"token": token});
    })?;
    let mut command = Command::new(from_environment("KONDUCTOR_E2E_KONCLI")?);
    command.args(arguments).env("KONCLI_NAMESPACE", namespace).env("KUBECONFIG", &file);
    let said = say_with_kubeconfig(command, "").await;
    std::fs::remove_file(&file)?;
    said
}

/// A file or folder of the source tree.
pub fn in_tree(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

impl Said {
    /// Fails with the program's own words if it failed.
    fn expect_success(self, program: &str, arguments: &[&str]) -> Result<Self> {
        ensure!(self.success, "{program} {}: {}{}", arguments.join(" "), self.err, self.out);
        Ok(self)
    }
}

async fn say(mut command: Command, input: &str) -> Result<Said> {
    command.env_remove("KUBECONFIG");
    say_with_kubeconfig(command, input).await
}

async fn say_with_kubeconfig(mut command: Command, input: &str) -> Result<Said> {
    command.kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("starting {}", command.as_std().get_program().display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that refuses its arguments ends without reading.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    Ok(Said {
        success: output.status.success(),
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
