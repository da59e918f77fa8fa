//! Which cluster a command works on, and how images get there.
//!
//! An explicit `--kubeconfig FILE`; else kind, if `kind` and a container engine answer; else the project's own. May
//! touch: the cluster it resolves to, `target/kind` and, with `--registry`, that registry. What must stay true: the
//! shell's KUBECONFIG decides nothing, so that no test lands on somebody's production.

#![expect(clippy::print_stderr, reason = "a notice that a setting of the shell is not followed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use konductor_cluster::{Cluster, Options, Progress};

use crate::images::{ImageRef, Images, root};

/// Of the kind cluster that is made for this project.
const KIND_CLUSTER: &str = "konductor";

/// The flags that choose a cluster, for every command that works on one.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Choice {
    /// The cluster to work on; without it, kind if it is there, else the project's own (the shell's KUBECONFIG is
    /// ignored)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where to push the images that the nodes of that cluster pull, e.g. registry.example.com/team
    #[arg(long, value_name = "REGISTRY", requires = "kubeconfig")]
    pub(crate) registry: Option<String>,
}

/// A cluster to work on.
#[derive(Debug)]
pub(crate) struct Target {
    kubeconfig: PathBuf,
    host: Host,
}

#[derive(Debug)]
enum Host {
    /// The project's own.
    Own(Cluster),
    /// Of this name.
    Kind(String),
    /// Somebody's; images go to the registry.
    Other { registry: Option<String> },
}

impl Choice {
    /// See [`Target::resolve`].
    pub(crate) fn resolve(&self) -> Result<Target> {
        Target::resolve(self.kubeconfig.as_deref(), self.registry.as_deref())
    }

    /// The same cluster, but none is started for it.
    pub(crate) fn resolve_running(&self) -> Result<Option<Target>> {
        if self.kubeconfig.is_some() {
            return self.resolve().map(Some);
        }
        if let Some(clusters) = kind_clusters() {
            return if has_line(&clusters, KIND_CLUSTER) { kind_target().map(Some) } else { Ok(None) };
        }
        Ok(Cluster::find(&Options::default())?.map(Target::own))
    }
}

// ------------------------------------------------------------------------------------------ which one

impl Target {
    /// Finds the cluster, or starts one.
    pub(crate) fn resolve(kubeconfig: Option<&Path>, registry: Option<&str>) -> Result<Self> {
        let target = match kubeconfig {
            Some(file) => Self::explicit(file, registry)?,
            None if kind_clusters().is_some() => kind_target()?,
            None => Self::own(Cluster::up(&Options::default())?),
        };
        if let Some(shell) = std::env::var_os("KUBECONFIG")
            && Path::new(&shell) != target.kubeconfig
        {
            eprintln!(
                "note: KUBECONFIG={} is not used; the cluster is that of {} (--kubeconfig FILE chooses another)",
                Path::new(&shell).display(),
                target.kubeconfig.display()
            );
        }
        Ok(target)
    }

    /// The project's own cluster of any name.
    pub(crate) fn own(cluster: Cluster) -> Self {
        Self { kubeconfig: cluster.kubeconfig(), host: Host::Own(cluster) }
    }

    fn explicit(file: &Path, registry: Option<&str>) -> Result<Self> {
        ensure!(file.is_file(), "--kubeconfig {}: there is no such file", file.display());
        let kubeconfig = std::path::absolute(file).context("finding the current folder")?;
        if let Some(registry) = registry {
            let registry = Some(registry.trim_end_matches('/').to_owned());
            return Ok(Self { kubeconfig, host: Host::Other { registry } });
        }
        if let Some(cluster) = Cluster::of_kubeconfig(&kubeconfig)? {
            return Ok(Self::own(cluster));
        }
        let context = output(
            kubectl_from_path()?.arg("--kubeconfig").arg(&kubeconfig).args(["config", "current-context"]),
        )?;
        let host = match kind_name(&context, &kind_clusters().unwrap_or_default()) {
            Some(name) => Host::Kind(name),
            None => Host::Other { registry: None },
        };
        Ok(Self { kubeconfig, host })
    }
}

/// kind names a context after its cluster, and anybody may name a context so; its own list decides.
fn kind_name(context: &str, clusters: &str) -> Option<String> {
    let name = context.trim().strip_prefix("kind-")?;
    has_line(clusters, name).then(|| name.to_owned())
}

/// Is kind there, and a container engine that it works with?
pub(crate) fn has_kind() -> bool {
    kind_clusters().is_some()
}

/// What kind lists, if it is there and its container engine answers.
fn kind_clusters() -> Option<String> {
    let output = Command::new("kind").args(["get", "clusters"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The project's cluster in kind, made if it is not there; with a kubeconfig beside the user's.
fn kind_target() -> Result<Target> {
    let folder = root().join("target/kind");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let kubeconfig = folder.join("kubeconfig");
    let mut command = Command::new("kind");
    if has_line(&kind_clusters().unwrap_or_default(), KIND_CLUSTER) {
        command.args(["export", "kubeconfig"]);
    } else {
        command.args(["create", "cluster", "--wait", "3m"]);
    }
    command.args(["--name", KIND_CLUSTER, "--kubeconfig"]).arg(&kubeconfig);
    let status = command.status().context("running kind")?;
    ensure!(
        status.success(),
        "kind could not provide the cluster {KIND_CLUSTER}; its words are above, and this starts over: kind delete \
         cluster --name {KIND_CLUSTER}"
    );
    Ok(Target { kubeconfig, host: Host::Kind(KIND_CLUSTER.to_owned()) })
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|other| other.trim() == line)
}

// ------------------------------------------------------------------------------------------ what it offers

impl Target {
    /// Is it the project's own, whose machines can be lost?
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.host, Host::Own(_))
    }

    /// With the rights to install.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubectl.
    pub(crate) fn kubectl(&self) -> Result<PathBuf> {
        match &self.host {
            Host::Own(cluster) => Ok(cluster.kubectl()),
            Host::Kind(_) | Host::Other { .. } => {
                kubectl_from_path().map(|command| PathBuf::from(command.get_program()))
            }
        }
    }

    /// A helm; for the project's own cluster, and where there is none, the one that is built from source.
    pub(crate) fn helm(&self) -> Result<PathBuf> {
        match &self.host {
            Host::Kind(_) | Host::Other { .. } if answers("helm", &["version"]) => Ok("helm".into()),
            _ => konductor_cluster::helm(Progress::Shown),
        }
    }

    /// Brings the images of Konductor to where the nodes find them, and returns them under the names they have there.
    pub(crate) fn load(&self, images: &Images) -> Result<Images> {
        let all = [images.operator.clone(), images.waiter.clone(), images.koncli.clone()];
        let [operator, waiter, koncli] = <[ImageRef; 3]>::try_from(self.load_images(&all)?)
            .ok()
            .context("as many images as were given")?;
        Ok(Images { operator, waiter, koncli })
    }

    /// The same for any images.
    pub(crate) fn load_images(&self, images: &[ImageRef]) -> Result<Vec<ImageRef>> {
        images.iter().map(|image| self.load_image(image)).collect()
    }

    fn load_image(&self, image: &ImageRef) -> Result<ImageRef> {
        match &self.host {
            Host::Own(cluster) => {
                cluster.import_images(&[&image.archive])?;
                Ok(image.clone())
            }
            Host::Kind(name) => {
                let mut command = Command::new("kind");
                command.args(["load", "image-archive"]).arg(&image.archive).args(["--name", name]);
                output(&mut command)?;
                Ok(image.clone())
            }
            Host::Other { registry: Some(registry) } => {
                let crane = konductor_cluster::crane(Progress::Shown)?;
                let mut pushed = image.at(registry);
                let told =
                    output(Command::new(&crane).arg("push").arg(&image.archive).arg(pushed.reference()))?;
                // Layers are compressed on their way, so the manifest there is another one.
                let (_, digest) =
                    told.trim().rsplit_once('@').context("crane does not say what it pushed")?;
                digest.clone_into(&mut pushed.digest);
                Ok(pushed)
            }
            Host::Other { registry: None } => bail!(
                "the nodes of the cluster of {} take images from a registry only: give one that they pull from and \
                 that you may push to, with --registry REGISTRY",
                self.kubeconfig.display()
            ),
        }
    }
}

impl ImageRef {
    /// The same image in a registry.
    fn at(&self, registry: &str) -> Self {
        let name = self.repository.rsplit('/').next().unwrap_or(&self.repository);
        Self { repository: format!("{registry}/{name}"), ..self.clone() }
    }
}

fn kubectl_from_path() -> Result<Command> {
    ensure!(
        answers("kubectl", &["version", "--client"]),
        "a cluster other than the project's own needs kubectl: install it (https://kubernetes.io/docs/tasks/tools)"
    );
    Ok(Command::new("kubectl"))
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn output(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_kinds_only_if_kind_says_so() {
        assert_eq!(kind_name("kind-konductor\n", "other\nkonductor\n").as_deref(), Some("konductor"));
        assert_eq!(kind_name("kind-production\n", "konductor\n"), None);
        assert_eq!(kind_name("production\n", "production\n"), None);
        assert_eq!(kind_name("kind-\n", "No kind clusters found.\n"), None);
    }

    #[test]
    fn an_image_keeps_name_and_tag_in_a_registry() {
        let image = ImageRef {
            repository: "localhost/konductor".to_owned(),
            tag: "0.1.0-abc".to_owned(),
            digest: String::new(),
            archive: PathBuf::new(),
        };
        assert_eq!(image.at("example.com/team").reference(), "example.com/team/konductor:0.1.0-abc");
    }

    /// A folder with an image of one static program.
    fn image_in(folder: &Path) -> ImageRef {
        std::fs::create_dir_all(folder).unwrap();
        let contents = crate::oci::Contents {
            repository: "localhost/loaded".to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            entrypoint: "/busybox".to_owned(),
            files: vec![("busybox".to_owned(), std::fs::read("/bin/busybox").unwrap())],
        };
        let repository = contents.repository.clone();
        let packed = contents.pack().unwrap();
        let archive = folder.join("loaded.tar");
        std::fs::write(&archive, packed.bytes).unwrap();
        ImageRef { repository, tag: packed.tag, digest: packed.digest, archive }
    }

    #[test]
    #[ignore = "builds crane, which takes a minute the first time, and listens on the loopback"]
    fn an_image_is_pushed_to_where_nodes_pull_it() {
        let crane = konductor_cluster::crane(Progress::Silent).unwrap();
        let folder = std::env::temp_dir().join(format!("konductor-push-{}", std::process::id()));
        let image = image_in(&folder);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let mut registry = Command::new(&crane);
        let mut registry = registry.args(["registry", "serve", "--address", &address]).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(&address).is_err() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let host = Host::Other { registry: Some(format!("{address}/team")) };
        let target = Target { kubeconfig: PathBuf::new(), host };
        let pushed = target.load_images(&[image]);
        let digest = pushed
            .as_ref()
            .map(|pushed| output(Command::new(&crane).args(["digest", &pushed[0].reference()])));
        registry.kill().unwrap();
        registry.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let (digest, pushed) = (digest.unwrap().unwrap(), pushed.unwrap());
        assert_eq!(digest.trim(), pushed[0].digest);
        assert_eq!(pushed[0].repository, format!("{address}/team/loaded"));
    }

    #[test]
    #[ignore = "brings up a cluster of its own: Linux, root, and minutes the first time"]
    fn an_image_runs_on_the_projects_own_cluster_and_helm_reaches_it() {
        let options = Options { name: "target".to_owned(), progress: Progress::Silent, ..Options::default() };
        let cluster = Cluster::up(&options).unwrap();
        let target = Target::resolve(Some(&cluster.kubeconfig()), None).unwrap();
        assert!(matches!(target.host, Host::Own(_)), "a kubeconfig of ours is known as such");
        let folder = std::env::temp_dir().join(format!("konductor-load-{}", std::process::id()));
        let image = image_in(&folder);
        assert_eq!(
            target.load_images(std::slice::from_ref(&image)).unwrap()[0].reference(),
            image.reference()
        );
        std::fs::remove_dir_all(&folder).unwrap();
        let kubectl = |arguments: &[&str]| {
            let mut command = Command::new(target.kubectl().unwrap());
            output(command.arg("--kubeconfig").arg(target.kubeconfig()).args(arguments)).unwrap()
        };
        kubectl(&["run", "loaded", "--restart=Never", "--image", &image.reference(), "--", "true"]);
        kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/loaded", "--timeout=60s"]);
        let mut helm = Command::new(target.helm().unwrap());
        output(helm.arg("--kubeconfig").arg(target.kubeconfig()).args(["list", "--all-namespaces"])).unwrap();
        Cluster::down(&options).unwrap();
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let error = Target::resolve(Some(Path::new("/no/such/file")), None).unwrap_err().to_string();
        assert_eq!(error, "--kubeconfig /no/such/file: there is no such file");
    }
}
