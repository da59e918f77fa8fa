//! A life: one seed from its beginning to its end.
//!
//! One thread, one runtime whose clock stands still while anybody works, and jumps to what is next when nobody does. What must
//! stay true: the same seed gives the same life, to the last byte of every object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use konductor_operator::backoff::Salt;
use konductor_operator::client::Requests;
use konductor_operator::clock::Clock;
use konductor_operator::operator::{Operator, Settings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::check::progress;
use crate::clients::Client;
use crate::cluster::{Cluster, Shared};
use crate::controllers::Controllers;
use crate::flaw::Flaw;
use crate::history::{Broken, History};
use crate::network::{Network, Sky};
use crate::node::Machine;
use crate::people::{self, Request};
use crate::random::Random;
use crate::store::Actor;
use crate::story::Story;
use crate::weather::Weather;

const OPERATORS: usize = 2;
/// How long it may take until everybody is through once it is calm.
const PATIENCE: Duration = Duration::from_secs(900);

/// How a seed is lived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// What is planted.
    pub flaw: Option<Flaw>,
    /// Is the history wanted in words?
    pub told: bool,
}

/// What became of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The invariant that was broken, if one was.
    pub broken: Option<Broken>,
    /// A number that stands for everything that has happened.
    pub digest: u64,
    /// How long it took in the time of the story.
    pub age: Duration,
    /// What happened, in words, if that was wanted.
    pub lines: Vec<String>,
    /// What happened, counted.
    pub tally: BTreeMap<&'static str, usize>,
}

/// An operator, while there is one, and what it talks through.
struct Post {
    number: usize,
    generation: u64,
    sky: Sky,
    /// How far its clock is off.
    skew: SignedDuration,
    running: Option<(JoinHandle<anyhow::Error>, Arc<AtomicBool>)>,
    back_at: Duration,
}

/// Lives one seed.
///
/// # Panics
///
/// If no runtime can be made.
pub fn live(seed: u64, way: Way) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Made inside, where the clock is that of the story.
    runtime.block_on(async { Life::new(seed, way).run(seed).await })
}

struct Life {
    cluster: Shared,
    way: Way,
    random: Random,
    story: Story,
    posts: Vec<Post>,
    clients: Vec<Client>,
    controllers: Controllers,
    epoch: Timestamp,
    since: Instant,
    faults: Random,
    next_fault: Duration,
    made_primitives: Vec<bool>,
    made_workloads: Vec<bool>,
    calm_since: Option<Duration>,
    /// When people helped last, and when it was last looked whether all is over.
    helped: Duration,
    looked: Duration,
}

impl Life {
    fn new(seed: u64, way: Way) -> Self {
        let random = Random::new(seed);
        let mut drawn = random.fork("story");
        let story = Story::new(&mut drawn);
        let epoch = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 60);
        let machines = (0..story.machines)
            .map(|number| {
                let skew = i64::try_from(drawn.between(0, 6000)).unwrap_or(0) - 3000;
                Machine::new(number, SignedDuration::from_millis(skew))
            })
            .collect();
        let posts = (0..OPERATORS)
            .map(|number| Post {
                number,
                generation: 0,
                sky: Sky::new(Weather::new(random.fork(&format!("weather {number}")))),
                skew: match drawn.below(20) {
                    0 => SignedDuration::from_hours(1),
                    1 => SignedDuration::from_hours(-1),
                    _ => {
                        SignedDuration::from_millis(i64::try_from(drawn.between(0, 2000)).unwrap_or(0) - 1000)
                    }
                },
                running: None,
                back_at: Duration::ZERO,
            })
            .collect();
        let clients = story.claims.iter().cloned().map(Client::new).collect();
        let mut faults = random.fork("faults");
        Self {
            next_fault: faults.millis(2_000, 20_000),
            faults,
            made_primitives: vec![false; story.primitives.len()],
            made_workloads: vec![false; story.workloads.len()],
            calm_since: None,
            helped: Duration::ZERO,
            looked: Duration::ZERO,
            cluster: Shared::new(Cluster::new(epoch, machines, History::new(way.told))),
            way,
            random: random.fork("life"),
            story,
            posts,
            clients,
            controllers: Controllers::default(),
            epoch,
            since: Instant::now(),
        }
    }

    async fn run(mut self, seed: u64) -> Outcome {
        loop {
            self.tend_operators().await;
            if self.goes_on() {
                let pause = self.random.millis(120, 400);
                sleep(pause).await;
            } else {
                break;
            }
        }
        let mut cluster = self.cluster.lock();
        Outcome {
            seed,
            broken: cluster.history.broken.clone(),
            digest: cluster.history.digest(),
            age: cluster.age(),
            lines: cluster.history.lines.take().unwrap_or_default(),
            tally: std::mem::take(&mut cluster.history.tally),
        }
    }

    /// Everybody but the operators does what is due. Is there anything left to see?
    fn goes_on(&mut self) -> bool {
        let shared = self.cluster.clone();
        let mut cluster = shared.lock();
        let age = cluster.age();
        self.come(&mut cluster, age);
        self.tick(&mut cluster);
        match self.calm_since {
            None if age >= self.story.calm => {
                self.calm_since = Some(age);
                let skies: Vec<_> = self.posts.iter().map(|post| post.sky.clone()).collect();
                people::calm(&mut cluster, &skies, &mut self.faults);
                for post in &mut self.posts {
                    post.back_at = post.back_at.min(age);
                }
            }
            None if age >= self.next_fault => {
                self.next_fault = age + self.faults.millis(500, 25_000);
                self.disturb(&mut cluster);
            }
            Some(since) if age.saturating_sub(self.helped) > Duration::from_secs(10) => {
                self.helped = age;
                people::help(&mut cluster, &self.story.primitives, age.saturating_sub(since));
                for client in &mut self.clients {
                    client.help(&mut cluster, age.saturating_sub(since));
                }
            }
            _ => {}
        }
        !self.is_over(&mut cluster, age) && cluster.history.broken.is_none()
    }

    fn come(&mut self, cluster: &mut Cluster, age: Duration) {
        let (primitives, workloads) = (&self.story.primitives, &self.story.workloads);
        for (primitive, made) in primitives.iter().zip(&mut self.made_primitives) {
            if !*made && primitive.comes <= age {
                *made = true;
                people::make_primitive(cluster, primitive);
            }
        }
        for (workload, made) in workloads.iter().zip(&mut self.made_workloads) {
            if !*made && workload.comes <= age {
                *made = true;
                people::make_workload(cluster, workload);
            }
        }
    }

    /// Has everybody come, and is everybody through?
    fn is_over(&mut self, cluster: &mut Cluster, age: Duration) -> bool {
        if age.saturating_sub(self.looked) < Duration::from_secs(3) {
            return false;
        }
        self.looked = age;
        let all_came =
            self.made_workloads.iter().all(|made| *made) && self.clients.iter().all(Client::is_done);
        let rest = progress::rest(cluster);
        if all_came && rest.is_empty() {
            return true;
        }
        if let Some(since) = self.calm_since.filter(|since| age.saturating_sub(*since) > PATIENCE) {
            let after = age.saturating_sub(since);
            let detail = format!("{after:?} after it became calm there is still {}", rest.join("; "));
            cluster.history.breaks(age, "Progress", detail);
        }
        false
    }

    fn tick(&mut self, cluster: &mut Cluster) {
        let forgets = self.way.flaw.is_some_and(Flaw::forgets);
        for node in 0..cluster.machines.len() {
            if self.random.chance(800) {
                cluster.beat(node, &mut self.random, forgets);
            }
        }
        if self.random.chance(500) {
            self.controllers.tick(cluster, &mut self.random);
        }
        for client in &mut self.clients {
            client.tick(cluster);
        }
    }

    fn disturb(&mut self, cluster: &mut Cluster) {
        let skies: Vec<_> = self.posts.iter().map(|post| post.sky.clone()).collect();
        let request = people::disturb(cluster, &skies, &mut self.faults);
        if let Request::Crash(number) = request
            && let Some(post) = self.posts.get_mut(number)
            && let Some((task, alive)) = post.running.take()
        {
            alive.store(false, Ordering::Relaxed);
            task.abort();
            post.back_at = self.since.elapsed() + self.faults.millis(100, 40_000);
        }
    }

    /// Who is due starts; one that ended by itself is a bug.
    async fn tend_operators(&mut self) {
        for post in &mut self.posts {
            if post.running.as_ref().is_some_and(|(task, _)| task.is_finished())
                && let Some((task, _)) = post.running.take()
            {
                let why = task.await.map_or_else(|error| error.to_string(), |error| error.to_string());
                let now = self.since.elapsed();
                self.cluster.lock().history.breaks(
                    now,
                    "Progress",
                    format!("operator {} ended: {why}", post.number),
                );
            }
            if post.running.is_none() && self.since.elapsed() >= post.back_at {
                post.start(&self.cluster, self.way.flaw, self.epoch, self.since);
            }
        }
    }
}

impl Post {
    fn start(&mut self, cluster: &Shared, flaw: Option<Flaw>, epoch: Timestamp, since: Instant) {
        self.generation += 1;
        let alive = Arc::new(AtomicBool::new(true));
        let network = Network {
            cluster: cluster.clone(),
            sky: self.sky.clone(),
            actor: Actor::Operator(self.number),
            alive: Arc::clone(&alive),
            flaw,
        };
        let client = konductor_operator::client::over(network, "ns");
        let settings = Settings {
            concurrency: 4,
            instance: Some(format!("operator-{}", self.number)),
            // Both work, which is harder than to take turns.
            candidate: None,
            // That pods are lost to silence is not told here yet.
            loses_pods: false,
            clock: Clock::Simulated { epoch: epoch + self.skew, since },
            requests: Requests::default(),
            salt: Salt(u64::try_from(self.number).unwrap_or(0) * 1000 + self.generation),
        };
        let operator = Operator::new(&client, settings);
        self.running = Some((tokio::spawn(operator.run(|| {})), alive));
    }
}
