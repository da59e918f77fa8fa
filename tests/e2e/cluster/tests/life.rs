//! The life of a cluster, on this machine: up, used, broken, repaired, down without a trace.
//!
//! Run by `cargo test -p konductor-cluster -- --ignored`; one test at a time has the cluster of its name.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use konductor_cluster::{Cluster, Daemon, Options, Progress, Status, Worker};

const PATIENCE: Duration = Duration::from_secs(60);

fn options(name: &str) -> Options {
    Options { name: name.to_owned(), progress: Progress::Silent, ..Options::default() }
}

fn text(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String, String> {
    text(cluster.kubectl_command().args(arguments))
}

fn until(what: &str, look: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a cluster could leave behind on the machine.
fn traces(name: &str) -> Vec<String> {
    let mark = format!("/var/lib/konductor/{name}/");
    let processes = text(Command::new("ps").args(["-eo", "args"])).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<_> = processes
        .lines()
        .chain(mounts.lines())
        .filter(|line| line.contains(&mark))
        .map(str::to_owned)
        .collect();
    for folder in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let cgroup = folder.unwrap().path().join(format!("konductor-{name}"));
        found.extend(cgroup.exists().then(|| cgroup.display().to_string()));
    }
    found.extend(Path::new(&mark).exists().then(|| mark.clone()));
    found
}

fn interfaces() -> String {
    text(Command::new("ip").args(["-o", "link", "show"])).unwrap()
}

#[test]
#[ignore = "brings up a cluster of its own: Linux, root, and minutes the first time"]
fn a_cluster_runs_pods_survives_the_loss_of_daemons_and_leaves_no_trace() {
    let (name, before) = ("life", interfaces());
    let cluster = Cluster::up(&options(name)).unwrap();
    let started = |cluster: &Cluster| {
        kubectl(cluster, &["get", "node", "n1", "-o", "jsonpath={.metadata.uid}"]).unwrap()
    };
    let node = started(&cluster);
    assert_eq!(started(&Cluster::up(&options(name)).unwrap()), node, "up twice is one cluster");
    assert_eq!(
        Cluster::of_kubeconfig(&cluster.kubeconfig()).unwrap().unwrap().kubeconfig(),
        cluster.kubeconfig()
    );

    // A pod, its log, a program in it, an image by a name that no registry was asked for.
    kubectl(
        &cluster,
        &[
            "run",
            "a",
            "--image=busybox:1.36",
            "--",
            "sh",
            "-c",
            "echo here; trap 'exit 0' TERM; sleep 9999 & wait",
        ],
    )
    .unwrap();
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/a", "--timeout=60s"]).unwrap();
    until("the log", || kubectl(&cluster, &["logs", "a"]) == Ok("here\n".to_owned()));
    assert_eq!(kubectl(&cluster, &["exec", "a", "--", "hostname"]), Ok("a\n".to_owned()));
    until("the name of a Service", || {
        kubectl(&cluster, &["exec", "a", "--", "nslookup", "kubernetes.default.svc.cluster.local"])
            .is_ok_and(|answer| answer.contains("10.96.0.1"))
    });

    // Its container is killed on the node; the kubelet starts another.
    let path = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = kubectl(&cluster, &["get", "pod", "a", "-o", path]).unwrap();
    cluster.kill_container(&id, "KILL").unwrap();
    let path = "jsonpath={.status.containerStatuses[0].restartCount}";
    until("a restart", || kubectl(&cluster, &["get", "pod", "a", "-o", path]) == Ok("1".to_owned()));

    // A kubelet that is stopped sees nothing; one that goes on sees all.
    cluster.signal(Daemon::Kubelet, "STOP").unwrap();
    kubectl(&cluster, &["run", "b", "--image=busybox:1.36", "--restart=Never", "--", "true"]).unwrap();
    cluster.signal(Daemon::Kubelet, "CONT").unwrap();
    let done = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/b", "--timeout=60s"];
    kubectl(&cluster, &done).unwrap();

    // Whatever is killed is told by status and repaired by up.
    for daemon in Daemon::ALL {
        cluster.kill(daemon).unwrap();
        let Status::Broken { reason } = Cluster::status(&options(name)).unwrap() else {
            panic!("{} is dead and nobody says so", daemon.name())
        };
        assert!(reason.starts_with(&format!("{} has ended", daemon.name())), "{reason}");
        Cluster::up(&options(name)).unwrap();
    }
    assert_eq!(started(&cluster), node, "repaired is not made anew");
    cluster.restart(Daemon::ApiServer).unwrap();
    cluster.wait_until_ready().unwrap();

    assert!(Cluster::down(&options(name)).unwrap());
    assert_eq!(traces(name), Vec::<String>::new());
    assert_eq!(interfaces(), before);
    assert!(!Cluster::down(&options(name)).unwrap());
    assert_eq!(Cluster::status(&options(name)).unwrap(), Status::Down);
}

/// A pod of that name on that node, once it is ready. It counts aloud.
fn counts_on(cluster: &Cluster, name: &str, node: &str) {
    let place = format!(r#"{{"spec": {{"nodeSelector": {{"kubernetes.io/hostname": "{node}"}}}}}}"#);
    let counts = "n=0; while true; do n=$((n + 1)); echo $n; sleep 0.1; done";
    kubectl(
        cluster,
        &[
            "run",
            name,
            "--image=busybox:1.36",
            "--overrides",
            &place,
            "--restart=Never",
            "--",
            "sh",
            "-c",
            counts,
        ],
    )
    .unwrap();
    let pod = format!("pod/{name}");
    kubectl(cluster, &["wait", "--for=condition=Ready", &pod, "--timeout=60s"]).unwrap();
}

/// How far the pod has counted, by what is on the disk of its node.
fn count(worker: &Worker, pod: &str) -> u64 {
    let script = format!("tail -n 1 /var/log/pods/default_{pod}_*/{pod}/0.log");
    let line = text(worker.command("sh").unwrap().args(["-c", &script])).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
#[ignore = "brings up a cluster of its own: Linux, root, and minutes the first time"]
fn a_node_joins_is_lost_in_every_way_and_comes_back() {
    let (name, before) = ("life-nodes", interfaces());
    let cluster = Cluster::up(&options(name)).unwrap();
    let worker = cluster.join().unwrap();
    assert_eq!(worker.name(), "n2");
    let says = |path: &str| kubectl(&cluster, &["get", "node", "n2", "-o", path]).unwrap();
    let is_ready = || says(r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#) == "True";
    let boot = || says("jsonpath={.status.nodeInfo.bootID}");
    let first_boot = boot();
    assert_eq!(first_boot, worker.boot_id().unwrap());

    // Pods find names and each other from both nodes, and what is said on the new one is heard.
    counts_on(&cluster, "far", "n2");
    counts_on(&cluster, "near", "n1");
    let address =
        |pod: &str| kubectl(&cluster, &["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]).unwrap();
    for (from, to) in [("near", "far"), ("far", "near")] {
        kubectl(&cluster, &["exec", from, "--", "ping", "-c", "1", "-W", "5", &address(to)]).unwrap();
    }
    until("the name of a Service", || {
        kubectl(&cluster, &["exec", "far", "--", "nslookup", "kubernetes.default.svc.cluster.local"])
            .is_ok_and(|answer| answer.contains("10.96.0.1"))
    });
    until("the log", || kubectl(&cluster, &["logs", "far"]).is_ok_and(|log| log.starts_with("1\n2\n")));

    // The cable, and the kubelet: nothing is heard, and everything goes on.
    let goes_on = |from: u64| until("the pod goes on", || count(&worker, "far") > from);
    worker.cut_off().unwrap();
    until("silence", || !is_ready());
    goes_on(count(&worker, "far"));
    worker.mend().unwrap();
    worker.wait_until_ready().unwrap();
    worker.stop_kubelet().unwrap();
    until("silence", || !is_ready());
    goes_on(count(&worker, "far"));
    worker.start_kubelet().unwrap();
    worker.wait_until_ready().unwrap();
    goes_on(count(&worker, "far"));
    worker.restart(Daemon::Containerd).unwrap();
    until("the pod is heard again", || {
        kubectl(&cluster, &["exec", "far", "--", "true"]).is_ok() && worker.wait_until_ready().is_ok()
    });
    goes_on(count(&worker, "far"));
    assert_eq!(boot(), first_boot);

    // A folder of the machine is the same one on both.
    let common = cluster.common_folder("test").unwrap();
    std::fs::write(common.join("word"), "common").unwrap();
    let word = common.join("word").display().to_string();
    let of_both = [cluster.node_command("cat"), worker.command("cat").unwrap()];
    for mut cat in of_both {
        assert_eq!(text(cat.arg(&word)).unwrap(), "common");
    }

    // The power: what ran has ended, and only the node's own kubelet says so.
    worker.power_off().unwrap();
    assert!(worker.command("true").is_err());
    worker.power_on().unwrap();
    let ended = ["wait", "--for=jsonpath={.status.phase}=Failed", "pod/far", "--timeout=60s"];
    kubectl(&cluster, &ended).unwrap();
    worker.wait_until_ready().unwrap();
    assert_ne!(boot(), first_boot);
    counts_on(&cluster, "again", "n2");
    let id = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = kubectl(&cluster, &["get", "pod", "again", "-o", id]).unwrap();
    worker.kill_container(&id, "KILL").unwrap();
    let killed = ["wait", "--for=jsonpath={.status.phase}=Failed", "pod/again", "--timeout=60s"];
    kubectl(&cluster, &killed).unwrap();

    // The object: it goes, and a kubelet that starts makes another.
    worker.power_off().unwrap();
    worker.delete_object().unwrap();
    assert!(kubectl(&cluster, &["get", "node", "n2"]).is_err());
    worker.restore().unwrap();

    worker.leave().unwrap();
    assert!(kubectl(&cluster, &["get", "node", "n2"]).is_err());
    assert!(!Path::new(&format!("/var/lib/konductor/{name}/n2")).exists());

    // One that is there when all ends, and one that is off.
    assert!(cluster.workers().is_empty());
    let two = [cluster.join().unwrap(), cluster.join().unwrap()];
    assert_eq!(two.each_ref().map(Worker::name), ["n2", "n3"]);
    assert_eq!(cluster.workers().iter().map(Worker::name).collect::<Vec<_>>(), ["n2", "n3"]);
    two[1].power_off().unwrap();
    let again = Cluster::up(&Options { nodes: 3, ..options(name) }).unwrap();
    assert!(kubectl(&again, &["get", "node", "n3"]).unwrap().contains(" Ready "));
    two[0].power_off().unwrap();
    assert!(Cluster::down(&options(name)).unwrap());
    assert_eq!(traces(name), Vec::<String>::new());
    assert_eq!(interfaces(), before);
}

#[test]
#[ignore = "brings up two clusters of its own: Linux, root, and minutes the first time"]
fn two_clusters_do_not_meet() {
    let names = ["life-one", "life-two"];
    let up = |name| std::thread::spawn(move || Cluster::up(&options(name)).unwrap());
    let [one, two] = names.map(up).map(|thread| thread.join().unwrap());
    kubectl(&one, &["create", "namespace", "only-here"]).unwrap();
    assert!(kubectl(&two, &["get", "namespace", "only-here"]).unwrap_err().contains("not found"));
    assert!(Cluster::down(&options(names[0])).unwrap());
    assert_eq!(Cluster::status(&options(names[1])).unwrap(), Status::Up { kubeconfig: two.kubeconfig() });
    assert!(Cluster::down(&options(names[1])).unwrap());
    assert!(names.iter().all(|name| traces(name).is_empty()));
}
