//! `cargo xtask chaos`: hand-overs while everything around them fails.
//!
//! Ten locks side by side on a cluster of two nodes, real Jobs and pods that write under each of them, and faults of
//! machines, control plane, Konductor and workloads all the while. May touch: a cluster of the project's own, which it has for
//! itself, and `target/chaos`. What must stay true: nothing is skewed that it cannot restore; whatever goes wrong is told with
//! the seed and kept with all that tells why; what is counted was seen.
//!
//! The way through: [`course`] (the order of it all) → [`locks`] and [`work`] (what runs) → [`drive`] (who wants what) → [`faults`] (what happens to them) →
//! [`journal`] and [`seen`] (what was written down, by them and by the API) → [`oracle`] (was it as it must be) → [`table`] or
//! [`dump`]; beside them [`scene`] (what all of them work on) and [`random`].

#![expect(clippy::print_stdout, reason = "the figures are this command's output")]

mod course;
mod drive;
mod dump;
mod faults;
mod journal;
mod locks;
mod oracle;
mod random;
mod scene;
mod seen;
mod table;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use konductor_cluster::{Cluster, Options as ClusterOptions, Progress};

use self::scene::Scene;
use self::table::Figures;
use self::work::NAMESPACE;
use crate::install;
use crate::target::Target;

/// How much, with which dice, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Hand-overs, all locks together
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// Minutes after which it is enough, however many there were [default: none]
    #[arg(long)]
    minutes: Option<u64>,
    /// The same seed gives the same workloads and faults again, in the same order [default: of the time]
    #[arg(long)]
    seed: Option<u64>,
    /// The project's own cluster of that name, which nobody else should use meanwhile; started if it does not run
    #[arg(long, default_value = "chaos")]
    name: String,
    /// Only one of the project's own: this command kills machines
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    kubeconfig: Option<PathBuf>,
}

/// Runs, prints, and fails if anything was not as it must be.
pub(crate) fn run(options: &Options) -> Result<()> {
    let seed = options.seed.map_or_else(seed_of_now, Ok)?;
    let cluster = cluster_options(options)?;
    let scene = prepare(&cluster)?;
    println!(
        "seed {seed}: {} hand-overs of {} locks; again with: cargo xtask chaos --rounds {} --seed {seed}",
        options.rounds,
        locks::LOCKS.len(),
        options.rounds
    );
    let outcome = course::run(&scene, &course::Enough::new(options.rounds, options.minutes), seed);
    let mut figures = figures(&scene, seed)?;
    if let Err(error) = outcome {
        figures.problems.push(format!("{error:#}"));
    }
    let tally = scene.tally();
    table::store(&figures, &tally)?;
    println!("\n{}", figures.markdown(&tally));
    drop(tally);
    if figures.problems.is_empty() {
        println!(
            "0 overlaps, 0 lost waiters, every release on evidence; all of it: {}",
            table::folder().display()
        );
        let _ = scene.proxy.delete(&format!("/api/v1/namespaces/{NAMESPACE}"));
        return Ok(());
    }
    for problem in &figures.problems {
        println!("PROBLEM {problem}");
    }
    let kept = dump::write(&scene, seed, &figures.problems)?;
    bail!("{} problems with seed {seed}; all that tells why is in {}", figures.problems.len(), kept.display())
}

fn seed_of_now() -> Result<u64> {
    Ok(u64::try_from(jiff::Timestamp::now().as_second())?)
}

/// Machines of others are not ours to kill.
fn cluster_options(options: &Options) -> Result<ClusterOptions> {
    let name = match &options.kubeconfig {
        None => options.name.clone(),
        Some(file) => {
            let file = std::path::absolute(file).context("finding the current folder")?;
            ensure!(
                Cluster::of_kubeconfig(&file)?.is_some(),
                "{} is not of the project's own cluster: this command kills etcd, kubelets and machines, so it works on no \
                 other; without --kubeconfig it starts one",
                file.display()
            );
            let folder = file.parent().and_then(|folder| folder.file_name()).context("a cluster's folder")?;
            folder.to_string_lossy().into_owned()
        }
    };
    Ok(ClusterOptions { name, nodes: 2, progress: Progress::Shown, ..ClusterOptions::default() })
}

/// The cluster, whole; Konductor with two replicas of each part; and an empty namespace.
fn prepare(options: &ClusterOptions) -> Result<Scene> {
    let cluster = Cluster::up(options)?;
    let target = Target::own(cluster.clone());
    let images = crate::images::build()?;
    // What a run before this one was killed over.
    for worker in cluster.workers() {
        worker.restore()?;
    }
    let values = ["controller.replicas=2".to_owned(), "webhook.replicas=2".to_owned()];
    install::install(&target.helm()?, target.kubeconfig(), &target.load(&images)?, &values)?;
    let common = cluster.common_folder("chaos")?;
    let scene = Scene::new(options.clone(), cluster, common)?;
    scene.repair()?;
    scene.proxy.remove(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    std::fs::remove_dir_all(scene.common()).context("removing the journals of a run before this one")?;
    std::fs::create_dir_all(scene.common())?;
    scene.proxy.create("/api/v1/namespaces", &work::namespace())?;
    scene.until_serving()?;
    Ok(scene)
}

fn figures(scene: &Scene, seed: u64) -> Result<Figures> {
    let (journals, shown, works) = (scene.journals()?, scene.seen(), scene.works());
    let mut problems = oracle::problems(&journals, &shown);
    problems
        .extend(oracle::lost(works.all.values().filter(|work| !works.removed.contains(&work.name)), &shown));
    let mut handovers = BTreeMap::<String, usize>::new();
    for (object, lines) in &journals {
        let lock = locks::of_object(object).map_or(object.as_str(), |lock| lock.name);
        *handovers.entry(lock.to_owned()).or_default() += journal::handovers(lines);
    }
    let mut grades = BTreeMap::<String, usize>::new();
    for grade in shown.releases.values() {
        *grades.entry(grade.clone()).or_default() += 1;
    }
    Ok(Figures {
        seed,
        took: scene.begun.elapsed(),
        handovers,
        workloads: works.all.len(),
        removed: works.removed.len(),
        holds: journals.values().map(|lines| journal::holds(lines).len()).sum(),
        beats: journals.values().map(Vec::len).sum(),
        grades,
        unseen: oracle::unseen(&journals, &shown).len(),
        problems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_somebody_elses_is_refused_with_the_reason() {
        let options = Options {
            rounds: 1,
            minutes: None,
            seed: None,
            name: "chaos".to_owned(),
            kubeconfig: Some("/root/.kube/config".into()),
        };
        let words = cluster_options(&options).unwrap_err().to_string();
        assert!(words.contains("not of the project's own cluster"), "{words}");
    }
}
