//! The certificate authority: one CA in one Secret that all replicas share.
//!
//! May touch: one Secret of our own namespace. What must stay true: the Secret is created once and never
//! overwritten (a second CA would fight the first for `caBundle`), and the first certificate of the bundle is the
//! one whose key signs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Key of the Secret that holds the CA certificates, the current one first.
pub const CERTIFICATE_KEY: &str = "ca.crt";
/// Key of the Secret that holds the private key of the first CA certificate.
pub const PRIVATE_KEY_KEY: &str = "ca.key";

/// Clocks of nodes differ: a certificate is valid a little earlier than it was made.
pub(crate) const BACK_DATED: SignedDuration = SignedDuration::from_mins(5);
/// kube's client has no read timeout of its own.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The CA that is current, with everything that should be trusted beside it.
pub struct Authority {
    /// What signs; its certificate is `bundle[0]`.
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// Current first. More than one while a rotation overlaps.
    bundle: Vec<CertificateDer<'static>>,
    bundle_pem: String,
    pub(crate) not_after: Timestamp,
}

/// Why there is no authority, or no leaf from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret is there, but it is not a CA that can be used.
    #[error(
        "Secret {namespace}/{name}, key {key}: {problem}; delete it and restart the webhook to have a new CA made: \
         kubectl -n {namespace} delete secret {name}"
    )]
    Malformed {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// The key that is wrong.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The API server refused, or could not be asked.
    #[error(
        "Secret {namespace}/{name} could not be {verb}: {source}; the webhook's Role must allow that verb on it"
    )]
    Api {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// `read` or `created`.
        verb: &'static str,
        /// What the client said.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error(
        "Secret {namespace}/{name} could not be {verb}: no answer from the API server in 10 s; it will be tried again"
    )]
    Timeout {
        /// Namespace of the Secret.
        namespace: String,
        /// Name of the Secret.
        name: String,
        /// `read` or `created`.
        verb: &'static str,
    },
    /// A certificate could not be made, e.g. because a DNS name is none.
    #[error("no certificate for {subject}: {problem}")]
    Issue {
        /// For whom it should have been.
        subject: String,
        /// What went wrong.
        problem: String,
    },
}

/// The two values of the Secret.
struct Pems {
    certificate: String,
    private_key: String,
}

/// A Secret that cannot be used: which key, and why.
struct Unusable(&'static str, String);

// ---------------------------------------------------------------------------------------------- the Secret

impl Authority {
    /// Reads the CA from the Secret, or makes one and creates the Secret. Of several replicas that start
    /// together one creates, the others read what it made.
    pub async fn load_or_create(
        client: kube::Client,
        namespace: &str,
        secret_name: &str,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        let object = || (namespace.to_owned(), secret_name.to_owned());
        let api_error = |verb| {
            move |source: kube::Error| {
                let (namespace, name) = object();
                AuthorityError::Api { namespace, name, verb, source: Box::new(source) }
            }
        };
        let timeout = |verb| {
            move |_| {
                let (namespace, name) = object();
                AuthorityError::Timeout { namespace, name, verb }
            }
        };
        let read = || async {
            tokio::time::timeout(CALL_TIMEOUT, secrets.get_opt(secret_name))
                .await
                .map_err(timeout("read"))?
                .map_err(api_error("read"))
        };
        if let Some(found) = read().await? {
            return Self::from_secret(&found, namespace, secret_name, now);
        }
        let mine = Pems::make(now)?.into_secret(namespace, secret_name);
        let created = tokio::time::timeout(CALL_TIMEOUT, secrets.create(&PostParams::default(), &mine))
            .await
            .map_err(timeout("created"))?;
        match created {
            Ok(created) => Self::from_secret(&created, namespace, secret_name, now),
            // Another replica was faster: its CA counts.
            Err(kube::Error::Api(status)) if status.is_already_exists() => match read().await? {
                Some(theirs) => Self::from_secret(&theirs, namespace, secret_name, now),
                None => Err(api_error("read")(kube::Error::Api(status))),
            },
            Err(other) => Err(api_error("created")(other)),
        }
    }

    /// Reads the CA out of a Secret that is there.
    pub fn from_secret(
        secret: &Secret,
        namespace: &str,
        secret_name: &str,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        Pems::from_secret(secret).and_then(|pems| Self::from_pems(&pems, now)).map_err(
            |Unusable(key, problem)| AuthorityError::Malformed {
                namespace: namespace.to_owned(),
                name: secret_name.to_owned(),
                key,
                problem,
            },
        )
    }

    fn from_pems(pems: &Pems, now: Timestamp) -> Result<Self, Unusable> {
        let bad_certificate = |problem: String| Unusable(CERTIFICATE_KEY, problem);
        let bundle: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pems.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| bad_certificate(format!("not a PEM bundle of certificates ({error})")))?;
        let current = bundle.first().ok_or_else(|| bad_certificate("holds no certificate".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(current)
            .map_err(|error| bad_certificate(format!("the first certificate cannot be parsed ({error})")))?;
        if !parsed.is_ca() {
            return Err(bad_certificate("the first certificate is not a CA".to_owned()));
        }
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| bad_certificate(format!("the first certificate has no usable end ({error})")))?;
        if not_after <= now {
            return Err(bad_certificate(format!("the CA expired at {not_after}")));
        }
        let key = KeyPair::from_pem(&pems.private_key).map_err(|error| {
            Unusable(PRIVATE_KEY_KEY, format!("not a PKCS #8 private key in PEM ({error})"))
        })?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(Unusable(
                PRIVATE_KEY_KEY,
                format!("does not belong to the first certificate of {CERTIFICATE_KEY}"),
            ));
        }
        let issuer = Issuer::from_ca_cert_der(current, key)
            .map_err(|error| bad_certificate(format!("cannot act as an issuer ({error})")))?;
        Ok(Self { issuer, bundle_pem: pems.certificate.clone(), bundle, not_after })
    }

    /// How long a CA lives.
    pub const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);

    /// A new CA: certificate and private key.
    pub(crate) fn make_pems(now: Timestamp) -> Result<(String, String), AuthorityError> {
        Pems::make(now).map(|pems| (pems.certificate, pems.private_key))
    }

    /// Makes a CA that lives in no Secret: for tests and for previews.
    pub fn ephemeral(now: Timestamp) -> Result<Self, AuthorityError> {
        let pems = Pems::make(now)?;
        Self::from_pems(&pems, now)
            .map_err(|Unusable(_, problem)| AuthorityError::Issue { subject: "the CA".to_owned(), problem })
    }
}

impl Pems {
    fn make(now: Timestamp) -> Result<Self, AuthorityError> {
        let failed = |error: rcgen::Error| AuthorityError::Issue {
            subject: "the CA".to_owned(),
            problem: error.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        // Two CAs of an overlap must not share a name: path building goes by name first.
        params.distinguished_name.push(DnType::CommonName, format!("konductor CA {}", now.as_second()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now - BACK_DATED, now + Authority::LIFE);
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.pem(), private_key: key.serialize_pem() })
    }

    fn from_secret(secret: &Secret) -> Result<Self, Unusable> {
        let text = |key: &'static str| {
            let bytes = secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .ok_or_else(|| Unusable(key, "is missing".to_owned()))?;
            String::from_utf8(bytes.0.clone()).map_err(|_| Unusable(key, "is not text".to_owned()))
        };
        Ok(Self { certificate: text(CERTIFICATE_KEY)?, private_key: text(PRIVATE_KEY_KEY)? })
    }

    fn into_secret(self, namespace: &str, name: &str) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(
                    [("app.kubernetes.io/name", "konductor"), ("app.kubernetes.io/component", "webhook")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(
                [
                    (CERTIFICATE_KEY.to_owned(), ByteString(self.certificate.into_bytes())),
                    (PRIVATE_KEY_KEY.to_owned(), ByteString(self.private_key.into_bytes())),
                ]
                .into(),
            ),
            ..Secret::default()
        }
    }
}

// --------------------------------------------------------------------------------------------- what it tells

impl Authority {
    /// All certificates that clients should trust, as PEM, the current CA first.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The same, decoded.
    pub fn bundle(&self) -> &[CertificateDer<'static>] {
        &self.bundle
    }

    /// Do the two have a certificate in common?
    pub(crate) fn shares_a_certificate_with(&self, other: &Self) -> bool {
        self.bundle.iter().any(|certificate| other.bundle.contains(certificate))
    }

    /// When the current CA ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("certificates", &self.bundle.len())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// rcgen speaks another crate's time; seconds added to the epoch need no second date library by name.
pub(crate) fn set_validity(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| Duration::from_secs(at.as_second().try_into().unwrap_or(0));
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "konductor-system";
    const NAME: &str = "konductor-ca";

    fn secret() -> Secret {
        Pems::make(now()).unwrap().into_secret(NAMESPACE, NAME)
    }

    fn now() -> Timestamp {
        "2030-06-01T12:00:00Z".parse().unwrap()
    }

    fn set(secret: &mut Secret, key: &str, value: &[u8]) {
        secret.data.as_mut().unwrap().insert(key.to_owned(), ByteString(value.to_vec()));
    }

    fn problem(secret: &Secret, at: Timestamp) -> String {
        Authority::from_secret(secret, NAMESPACE, NAME, at).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_to_the_secret_is_read_back_as_the_same_authority() {
        let secret = secret();
        let authority = Authority::from_secret(&secret, NAMESPACE, NAME, now()).unwrap();
        let written = &secret.data.as_ref().unwrap()[CERTIFICATE_KEY];
        assert_eq!(authority.bundle_pem().as_bytes(), written.0);
        assert_eq!(authority.not_after(), now() + Authority::LIFE);
    }

    #[test]
    fn a_malformed_secret_is_refused_with_object_key_and_way_out() {
        let mut without_key = secret();
        without_key.data.as_mut().unwrap().remove(PRIVATE_KEY_KEY);
        let message = problem(&without_key, now());
        assert!(
            message.starts_with("Secret konductor-system/konductor-ca, key ca.key: is missing"),
            "{message}"
        );
        assert!(message.contains("kubectl -n konductor-system delete secret konductor-ca"), "{message}");

        let mut garbage = secret();
        set(&mut garbage, CERTIFICATE_KEY, b"hello");
        assert!(problem(&garbage, now()).contains("key ca.crt: holds no certificate"));
        set(
            &mut garbage,
            CERTIFICATE_KEY,
            b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
        );
        assert!(problem(&garbage, now()).contains("key ca.crt: the first certificate cannot be parsed"));

        let mut no_key = secret();
        set(&mut no_key, PRIVATE_KEY_KEY, b"hello");
        assert!(problem(&no_key, now()).contains("key ca.key: not a PKCS #8 private key"));
    }

    #[test]
    fn a_key_of_another_ca_is_refused() {
        let mut mixed = secret();
        let other = secret().data.unwrap().remove(PRIVATE_KEY_KEY).unwrap();
        set(&mut mixed, PRIVATE_KEY_KEY, &other.0);
        assert!(problem(&mixed, now()).contains("does not belong to the first certificate of ca.crt"));
    }

    #[test]
    fn an_expired_ca_is_refused() {
        assert!(problem(&secret(), now() + Authority::LIFE).contains("the CA expired at 2040-"));
    }

    #[test]
    fn a_bundle_signs_with_its_first_certificate_and_trusts_all() {
        let mut overlapping = secret();
        let old = secret().data.unwrap().remove(CERTIFICATE_KEY).unwrap();
        let current = overlapping.data.as_ref().unwrap()[CERTIFICATE_KEY].clone();
        set(&mut overlapping, CERTIFICATE_KEY, &[current.0, old.0].concat());
        let authority = Authority::from_secret(&overlapping, NAMESPACE, NAME, now()).unwrap();
        assert_eq!(authority.bundle().len(), 2);
    }
}
