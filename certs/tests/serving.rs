//! Leaves as a client meets them: verified by webpki, and in a real TLS handshake.

#![allow(clippy::unwrap_used, reason = "clippy.toml permits it in tests, but not in their helpers")]

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use konductor_certs::{Authority, LiveBundles, Serving, trusted};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

const NAME: &str = "konductor-webhook.konductor-system.svc";

const LIFE: SignedDuration = SignedDuration::from_hours(720);

fn now() -> Timestamp {
    "2030-06-01T12:00:00Z".parse().unwrap()
}

fn names() -> Vec<String> {
    vec![NAME.to_owned()]
}

/// A configuration with one entry per bundle.
fn live(bundles: &[&str]) -> LiveBundles {
    let webhooks: Vec<_> = bundles
        .iter()
        .enumerate()
        .map(|(at, bundle)| {
            serde_json::json!({
                "name": format!("w{at}.konductor.io"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": {"caBundle": k8s_openapi::ByteString(bundle.as_bytes().to_vec())},
            })
        })
        .collect();
    let configuration: MutatingWebhookConfiguration =
        serde_json::from_value(serde_json::json!({"metadata": {"name": "konductor"}, "webhooks": webhooks}))
            .unwrap();
    LiveBundles::of(&configuration)
}

/// The wall clock of the simulated client.
#[derive(Debug)]
struct At(Timestamp);

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.as_second().unsigned_abs())))
    }
}

/// Shakes hands in memory and returns the certificate that the client accepted, and the protocol spoken.
fn handshake(
    server: &Arc<ServerConfig>,
    authority: &Authority,
    name: &str,
    at: Timestamp,
) -> Result<(CertificateDer<'static>, Option<Vec<u8>>), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.bundle()[0].clone()).unwrap();
    let mut config = ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::ring::default_provider()),
        Arc::new(At(at)),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let seen = client.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((seen, client.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn a_leaf_is_trusted_by_the_bundle_of_its_authority() {
    let authority = Authority::ephemeral(now()).unwrap();
    let leaf = authority.issue(&names(), LIFE, now()).unwrap();
    assert!(trusted(&leaf, &live(&[authority.bundle_pem()]), now()));
    assert!(trusted(&leaf, &live(&[authority.bundle_pem()]), leaf.not_before()));
}

#[test]
fn a_leaf_is_not_trusted_by_another_ca_nor_out_of_its_time() {
    let authority = Authority::ephemeral(now()).unwrap();
    let other = Authority::ephemeral(now()).unwrap();
    let leaf = authority.issue(&names(), LIFE, now()).unwrap();
    assert!(!trusted(&leaf, &live(&[other.bundle_pem()]), now()));
    let bundle = live(&[authority.bundle_pem()]);
    assert!(!trusted(&leaf, &bundle, leaf.not_before() - SignedDuration::from_secs(2)));
    assert!(!trusted(&leaf, &bundle, leaf.not_after() + SignedDuration::from_secs(2)));
}

#[test]
fn every_entry_must_trust_the_leaf_and_no_entry_is_no_trust() {
    let authority = Authority::ephemeral(now()).unwrap();
    let leaf = authority.issue(&names(), LIFE, now()).unwrap();
    let bundle = authority.bundle_pem();
    assert!(trusted(&leaf, &live(&[bundle, bundle]), now()));
    assert!(!trusted(&leaf, &live(&[bundle, ""]), now()));
    assert!(!trusted(&leaf, &live(&[bundle, "garbage"]), now()));
    assert!(!trusted(&leaf, &live(&[]), now()));
}

#[test]
fn a_bundle_of_two_cas_is_accepted_in_either_order() {
    let (old, new) = (Authority::ephemeral(now()).unwrap(), Authority::ephemeral(now()).unwrap());
    let leaf = new.issue(&names(), LIFE, now()).unwrap();
    for bundle in
        [[old.bundle_pem(), new.bundle_pem()].concat(), [new.bundle_pem(), old.bundle_pem()].concat()]
    {
        assert!(trusted(&leaf, &live(&[&bundle]), now()));
    }
}

#[test]
fn a_handshake_succeeds_for_the_name_and_fails_for_another() {
    let authority = Arc::new(Authority::ephemeral(now()).unwrap());
    let serving =
        Serving::start(Arc::new(ArcSwap::new(Arc::clone(&authority))), names(), LIFE, now()).unwrap();
    let config = serving.server_config().unwrap();
    let (seen, protocol) = handshake(&config, &authority, NAME, now()).unwrap();
    assert_eq!(&seen, serving.leaf().certificate().unwrap());
    assert_eq!(protocol.as_deref(), Some(b"h2".as_slice()));

    let refused = handshake(&config, &authority, "elsewhere.konductor-system.svc", now()).unwrap_err();
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let stranger = Authority::ephemeral(now()).unwrap();
    assert!(handshake(&config, &stranger, NAME, now()).is_err());
}

#[test]
fn a_renewed_leaf_is_what_the_next_handshake_sees_through_the_same_configuration() {
    let authority = Arc::new(Authority::ephemeral(now()).unwrap());
    let serving =
        Serving::start(Arc::new(ArcSwap::new(Arc::clone(&authority))), names(), LIFE, now()).unwrap();
    let config = serving.server_config().unwrap();
    let (first, _) = handshake(&config, &authority, NAME, now()).unwrap();

    let due = serving.leaf().renew_at();
    assert!(!serving.renew_if_due(due - SignedDuration::from_secs(1)).unwrap());
    assert_eq!(handshake(&config, &authority, NAME, now()).unwrap().0, first);

    assert!(serving.renew_if_due(due).unwrap());
    let (second, _) = handshake(&config, &authority, NAME, due).unwrap();
    assert_ne!(second, first);
    assert_eq!(&second, serving.leaf().certificate().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_loop_renews_by_wall_clock_though_hardly_any_time_passed_for_the_process() {
    let authority = Arc::new(Authority::ephemeral(now()).unwrap());
    let serving = Serving::start(Arc::new(ArcSwap::new(authority)), names(), LIFE, now()).unwrap();
    let first = serving.leaf().certificate().unwrap().clone();
    // A machine that slept for 21 days.
    let woken = now() + SignedDuration::from_hours(24 * 21);
    let keeping = Arc::clone(&serving).keep_fresh(move || woken);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(90), keeping).await;
    assert!(ended.is_err(), "the loop never ends by itself");
    assert_ne!(serving.leaf().certificate().unwrap(), &first);
}
