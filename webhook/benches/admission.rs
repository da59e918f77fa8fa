//! What an admission costs over TLS: `cargo bench -p konductor-webhook [-- --reviews N]`.
//!
//! The server is the shipped one in a process of its own, so that its processor time and memory can be told from the
//! caller's; both are on loopback. The review is that of a Job's pod under a mutex. A core's worth is what the server would
//! answer in a second of its own processor time.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark has a clock and prints"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use konductor_api::participation::PrimitiveRef;
use konductor_certs::{Authority, Serving};
use konductor_webhook::names::Names;
use konductor_webhook::serve::{Admissions, bind, serve_admission};
use konductor_webhook::waiter::Settings;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const REVIEW: &str = include_str!("../tests/reviews/pod-of-an-annotated-job.json");
/// Calls one after the other, for the time that one takes.
const ALONE: usize = 5_000;
/// Calls at a time, to keep the server busy.
const AT_ONCE: usize = 16;
/// Hundredths of a second, in which the kernel counts processor time here.
const TICKS: f64 = 100.0;

/// Everything exists.
struct Everything;

impl Names for Everything {
    fn is_missing(&self, _: &str, _: &PrimitiveRef) -> bool {
        false
    }
}

// --------------------------------------------------------------------------------------------------- the server

/// Prints its port and its CA, and answers until it is ended.
async fn serve() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let authority = Authority::ephemeral(Timestamp::now()).unwrap();
    let root: Vec<u8> = authority.bundle()[0].to_vec();
    let serving = Serving::start(
        Arc::new(ArcSwap::from_pointee(authority)),
        vec!["localhost".to_owned()],
        SignedDuration::from_hours(720),
        Timestamp::now(),
    )
    .unwrap();
    println!("{}", serde_json::json!({"port": port, "root": root}));
    let settings = Arc::new(ArcSwap::from_pointee(Settings::of_chart("localhost/konductor-waiter:0.1.0")));
    let admissions =
        Admissions { settings, names: Arc::new(Everything), metrics: Arc::default(), clock: Timestamp::now };
    serve_admission(listener, &serving, Arc::new(admissions), CancellationToken::new(), Duration::ZERO)
        .await
        .unwrap();
}

struct Server {
    process: Child,
    client: Client,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let mut config = kube::Config::new(format!("https://127.0.0.1:{}", told["port"]).parse().unwrap());
        config.root_cert = Some(vec![serde_json::from_value(told["root"].clone()).unwrap()]);
        config.tls_server_name = Some("localhost".to_owned());
        Self { process, client: Client::try_from(config).unwrap() }
    }

    async fn call(&self) -> Duration {
        let request =
            http::Request::post("/mutate?timeout=5s").body(Body::from(REVIEW.as_bytes().to_vec())).unwrap();
        let start = Instant::now();
        let answer = self.client.send(request).await.unwrap();
        let body = answer.into_body().collect_bytes().await.unwrap();
        let took = start.elapsed();
        assert!(body.windows(10).any(|part| part == b"\"injected\""), "{body:?}");
        took
    }

    /// Seconds of processor time.
    fn processor(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ------------------------------------------------------------------------------------------------- the measuring

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

async fn measure(reviews: usize) {
    let server = Server::start();
    let mut alone = Vec::new();
    for _ in 0..ALONE {
        alone.push(server.call().await);
    }
    println!(
        "one call at a time: p50 {:.2} ms, p99 {:.2} ms   goal p99 2 ms",
        percentile(&mut alone, 50),
        percentile(&mut alone, 99)
    );

    let (processor, memory, start) = (server.processor(), server.memory(), Instant::now());
    let next = AtomicUsize::new(0);
    let worker = || async {
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < reviews {
            times.push(server.call().await);
        }
        times
    };
    let mut times: Vec<_> = join_all((0..AT_ONCE).map(|_| worker())).await.concat();
    let (processor, wall) = (server.processor() - processor, start.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    let count = reviews as f64;
    println!("{reviews} calls, {AT_ONCE} at a time: {:.0} in a second beside the caller", count / wall);
    println!(
        "a core's worth: {:.0} in a second of the server's own processor time   goal 5000",
        count / processor
    );
    println!("p50 {:.2} ms, p99 {:.2} ms", percentile(&mut times, 50), percentile(&mut times, 99));
    println!("memory: {memory} KiB before, {} KiB after", server.memory());
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if arguments.iter().any(|argument| argument == "--serve") {
        return runtime.block_on(serve());
    }
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    runtime.block_on(measure(after("--reviews").unwrap_or(100_000)));
}
