//! A way to the API server that can be cut: a forwarder on loopback, for one client of it.
//!
//! May touch: a port of this machine. What must stay true: while it is cut nothing passes, not on old connections either, and
//! nobody is told: packets are not answered, as behind a broken network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::tools::kubeconfig_with;

/// See the module.
pub struct Proxy {
    cut: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
    /// A kubeconfig that goes through it.
    pub kubeconfig: PathBuf,
}

impl Proxy {
    /// To the cluster under test.
    pub async fn start(name: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let here = listener.local_addr()?;
        let mut server = String::new();
        let kubeconfig = kubeconfig_with(name, |config| {
            let cluster = &mut config["clusters"][0]["cluster"];
            cluster["server"].as_str().unwrap_or_default().clone_into(&mut server);
            let host = server.trim_start_matches("https://").split(':').next().unwrap_or_default();
            cluster["tls-server-name"] = serde_json::json!(host);
            cluster["server"] = serde_json::json!(format!("https://{here}"));
        })?;
        let there: SocketAddr = server
            .trim_start_matches("https://")
            .trim_end_matches('/')
            .parse()
            .context("the API server has an address")?;
        let cut = Arc::new(watch::Sender::new(false));
        let state = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = state.subscribe();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(there).await {
                        let (client, server) = (client.into_split(), server.into_split());
                        let other = state.clone();
                        tokio::join!(pass(client.0, server.1, state), pass(server.0, client.1, other));
                    }
                });
            }
        });
        Ok(Self { cut, task, kubeconfig })
    }

    /// Nothing passes from here on, or everything again.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        if cut.wait_for(|cut| !cut).await.is_err() || length == 0 {
            break;
        }
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
