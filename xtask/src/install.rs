//! `cargo xtask install` and `uninstall`: the chart of this tree, with the images of this tree, by helm.
//!
//! May touch: one namespace and the cluster-wide objects of one release, on the cluster whose kubeconfig is given;
//! never the shell's. What must stay true: what is installed is what was built, because the values name the tags that
//! were derived from the contents.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::images::{self, ImageRef, Images, root};
use crate::target::Target;

/// Name of the release.
pub(crate) const RELEASE: &str = "konductor";
/// Its namespace.
pub(crate) const NAMESPACE: &str = "konductor-system";
/// Image pulls, start, certificate, readiness.
const TIMEOUT: &str = "3m";

/// Builds the images, brings them to the cluster and installs; the images as they were built.
pub(crate) fn onto(target: &Target) -> Result<Images> {
    let images = images::build()?;
    install(&target.helm()?, target.kubeconfig(), &target.load(&images)?, &[])?;
    Ok(images)
}

/// Installs or upgrades. The images must be on the nodes, or where the nodes pull from, already. `values` are further
/// `--set` arguments.
pub(crate) fn install(helm: &Path, kubeconfig: &Path, images: &Images, values: &[String]) -> Result<()> {
    let mut command = helm_for(helm, kubeconfig);
    command.args(["upgrade", "--install", RELEASE]).arg(root().join("charts/konductor"));
    // Values of an earlier install would otherwise come back and name images that are gone.
    command.args(["--create-namespace", "--reset-values", "--wait", "--timeout", TIMEOUT]);
    let waiter = image_values("waiter.image", &images.waiter);
    let koncli = image_values("koncli.image", &images.koncli);
    for value in image_values("image", &images.operator).chain(waiter).chain(koncli) {
        command.args(["--set-string", &value]);
    }
    for value in values {
        command.args(["--set", value]);
    }
    run(command, "install Konductor", "kubectl -n konductor-system get pods,events")
}

/// Uninstalls. The custom resource definitions, and with them everybody's gates and mutexes, stay.
pub(crate) fn uninstall(helm: &Path, kubeconfig: &Path) -> Result<()> {
    let mut command = helm_for(helm, kubeconfig);
    command.args(["uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", TIMEOUT]);
    run(command, "uninstall Konductor", "kubectl -n konductor-system logs job/konductor-uninstall")
}

fn image_values(key: &str, image: &ImageRef) -> impl Iterator<Item = String> {
    [format!("{key}.repository={}", image.repository), format!("{key}.tag={}", image.tag)].into_iter()
}

fn helm_for(helm: &Path, kubeconfig: &Path) -> Command {
    let mut command = Command::new(helm);
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", NAMESPACE]);
    // The context of the shell must not decide where this lands.
    for variable in
        ["KUBECONFIG", "HELM_KUBECONTEXT", "HELM_NAMESPACE", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN"]
    {
        command.env_remove(variable);
    }
    command
}

fn run(mut command: Command, what: &str, look: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("running {}", command.get_program().display()))?;
    ensure!(status.success(), "helm could not {what}; its words are above, and this shows more: {look}");
    Ok(())
}
