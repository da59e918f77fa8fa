//! An operator that listens with a real certificate, answers as it is told, and notes what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) const HOST: &str = "konductor-sessions.konductor-system.svc";
const DEADLINE: Duration = Duration::from_secs(20);

/// How it behaves to those who come.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Status and body.
    Answers(u16, String),
    /// Takes the connection and says nothing, not even of TLS.
    Hangs,
    /// Greets, hears the request and says nothing.
    HangsAfterTls,
    /// A byte of the answer now and then.
    Drips,
    /// Ends the connection in the middle of the answer.
    EndsEarly,
    Resets,
}

/// One request that was heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

struct Shared {
    manner: Mutex<(Manner, Arc<ServerConfig>)>,
    heard: Mutex<Vec<Heard>>,
    more: Condvar,
}

#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::with(KeyPair::generate().unwrap())
    }

    pub(crate) fn with(key: KeyPair) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn serving(&self, host: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Operator {
    pub(crate) fn new(authority: &Authority, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            manner: Mutex::new((manner, authority.serving(HOST))),
            heard: Mutex::default(),
            more: Condvar::new(),
        });
        let operator = Self { port, shared };
        let serving = operator.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let operator = serving.clone();
                std::thread::spawn(move || operator.serve(socket));
            }
        });
        operator
    }

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.manner.lock().unwrap().0 = manner;
    }

    /// From now on with a certificate of that authority, for that host.
    pub(crate) fn show(&self, authority: &Authority, host: &str) {
        let config = authority.serving(host);
        self.shared.manner.lock().unwrap().1 = config;
    }

    /// How many requests it has heard.
    pub(crate) fn count(&self) -> usize {
        self.shared.heard.lock().unwrap().len()
    }

    /// The request of that number, from 0; waits for it.
    pub(crate) fn heard(&self, number: usize) -> Heard {
        let heard = self.shared.heard.lock().unwrap();
        let (heard, time) =
            self.shared.more.wait_timeout_while(heard, DEADLINE, |heard| heard.len() <= number).unwrap();
        assert!(!time.timed_out(), "only {} requests were heard", heard.len());
        heard[number].clone()
    }

    /// The first request that comes from now on.
    pub(crate) fn next(&self) -> Heard {
        self.heard(self.count())
    }

    fn serve(&self, mut socket: TcpStream) {
        let (manner, config) = self.shared.manner.lock().unwrap().clone();
        match manner {
            Manner::Hangs => return hold(&mut socket),
            Manner::Resets => {
                // What is not read when a socket is closed makes it a reset.
                let _ = socket.peek(&mut [0]);
                return;
            }
            _ => {}
        }
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        let Some(text) = request(&mut stream) else { return };
        self.shared.heard.lock().unwrap().push(Heard { at: Instant::now(), text });
        self.shared.more.notify_all();
        match manner {
            Manner::Answers(status, body) => {
                let _ = stream.write_all(answer(status, &body).as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            Manner::Drips => {
                for byte in answer(200, "held 600000\n").bytes().cycle() {
                    if stream.write_all(&[byte.max(b' ')]).and_then(|()| stream.flush()).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Manner::EndsEarly => {
                let text = answer(200, "held 600000\n");
                let _ = stream.write_all(&text.as_bytes()[..text.len() - 5]);
                let _ = stream.flush();
            }
            _ => hold(&mut stream.sock),
        }
    }
}

/// Until the other side goes.
fn hold(socket: &mut TcpStream) {
    while socket.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {}
}

fn answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn request(stream: &mut impl Read) -> Option<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        text.extend_from_slice(&buffer[..length]);
        if text.ends_with(b"\n") && !text.ends_with(b"\r\n") {
            return String::from_utf8(text).ok();
        }
    }
}
