//! TLS: whom to trust, and one exchange over a connection.
//!
//! Touches the connection it is given and nothing else. What must stay true: nothing is sent before the other side has
//! shown a certificate for the name, by a CA of the roots; all state of a connection goes with it.
//!
//! TLS 1.3 only, and a provider by hand: what the default one has beyond would be a tenth of the binary. Certificates may
//! have keys of all kinds that cert-manager makes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::ring as algorithms;

use super::exchange::Failure;
use super::guard::{Patience, Waited};
use super::wire::{self, Received};
use crate::sys::hold::{Interest, random};

/// RSA keys as certificates of TLS 1.3 use them, and the curves of cert-manager's `ECDSA` (256, 384) and `Ed25519`.
static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::ED25519,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
        (SignatureScheme::RSA_PSS_SHA256, &[algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA512, &[algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        // In TLS 1.3 only of certificates; but a client that does not offer them is shown none.
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
    ],
};

/// Random of the kernel; and no keys of our own.
#[derive(Debug)]
struct Kernel;

/// Trusts the certificates in the text; None if there is none in it.
pub(crate) fn trusting(pem: &str) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    let (good, _) = roots.add_parsable_certificates(certificates);
    if good == 0 {
        return None;
    }
    let provider = CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
        signature_verification_algorithms: ALGORITHMS,
        secure_random: &Kernel,
        key_provider: &Kernel,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

/// Sends the request and reads the answer: status and body.
pub(crate) fn converse(
    mut socket: TcpStream,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    request: &[u8],
    patience: &mut dyn Patience,
    until: i64,
) -> Result<(u16, String), Failure> {
    let mut tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(|error| problem(&error))?;
    // Kept until the handshake is done.
    tls.writer().write_all(request)?;
    let mut answer = Vec::new();
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if is_waiting(&error) => {
                    wait(&socket, Interest::Writable, patience, until)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Also where something is there already: whoever sends without end must not keep us from looking at the time.
        wait(&socket, Interest::Readable, patience, until)?;
        match tls.read_tls(&mut socket) {
            Ok(_) => {
                if let Err(error) = tls.process_new_packets() {
                    // Tell the other side why, if it can be told at once.
                    let _ = tls.write_tls(&mut socket);
                    return Err(problem(&error));
                }
            }
            Err(error) if is_waiting(&error) => continue,
            Err(error) => return Err(error.into()),
        }
        let ended = take(&mut tls, &mut answer)?;
        match wire::receive(&answer, ended) {
            Received::Part => {}
            Received::Whole(status, body) => {
                // A proper end, as far as it can be had at once.
                tls.send_close_notify();
                let _ = tls.write_tls(&mut socket);
                return Ok((status, body));
            }
            Received::Garbled(why) => return Err(Failure::Problem(format!("the operator: {why}"))),
        }
    }
}

/// Moves what has been deciphered behind what was there; says whether the other side has ended properly.
fn take(tls: &mut ClientConnection, answer: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    while answer.len() <= wire::MAX_ANSWER_BYTES {
        match tls.reader().read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if is_waiting(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn wait(
    socket: &TcpStream,
    interest: Interest,
    patience: &mut dyn Patience,
    until: i64,
) -> Result<(), Failure> {
    match patience.wait(Some((socket.as_fd(), interest)), until)? {
        Waited::Ready => Ok(()),
        Waited::TimeIsUp => Err(Failure::Problem("the operator does not answer".to_owned())),
    }
}

fn is_waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn problem(error: &rustls::Error) -> Failure {
    Failure::Problem(format!("TLS: {error}"))
}

impl SecureRandom for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        random(bytes).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Kernel {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("the sidecar has no key".to_owned()))
    }
}
