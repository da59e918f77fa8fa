//! Leaves: certificates for serving, issued by the authority.
//!
//! Touches memory only. What must stay true: a leaf's private key is made here and never leaves the process.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, AuthorityError, BACK_DATED, set_validity};

/// A certificate for serving, with its key.
#[derive(Clone)]
pub struct Leaf {
    certified: Arc<CertifiedKey>,
    dns_names: Vec<String>,
    issued_at: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Authority {
    /// Issues a serving certificate for these DNS names, good for so long (or as long as the CA itself).
    pub fn issue(
        &self,
        dns_names: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Leaf, AuthorityError> {
        let failed = |problem: String| AuthorityError::Issue { subject: dns_names.join(", "), problem };
        let common_name = dns_names.first().ok_or_else(|| failed("no DNS name was given".to_owned()))?;
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let (not_before, not_after) = (now - BACK_DATED, (now + life).min(self.not_after));
        let mut params = CertificateParams::new(dns_names).map_err(|error| failed(error.to_string()))?;
        // A common name holds 64 characters; names are checked by the alternative names anyway.
        let common_name: String = common_name.chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, not_before, not_after);
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| failed(error.to_string()))?;
        let signing_key =
            any_ecdsa_type(&PrivateKeyDer::from(key)).map_err(|error| failed(error.to_string()))?;
        Ok(Leaf {
            certified: Arc::new(CertifiedKey::new(vec![certificate.into()], signing_key)),
            dns_names: dns_names.to_vec(),
            issued_at: now,
            not_before,
            not_after,
        })
    }
}

impl Leaf {
    /// One that somebody else issued.
    pub(crate) fn of_others(
        certified: Arc<CertifiedKey>,
        dns_names: Vec<String>,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Self {
        Self { certified, dns_names, issued_at: not_before, not_before, not_after }
    }

    /// The certificate itself.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    /// What stands between it and a CA.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        self.certified.cert.get(1..).unwrap_or_default()
    }

    /// Certificate and key as a TLS server takes them.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// The names it is good for.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// From when on it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Until when it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// When a new one is due: after two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.issued_at + self.issued_at.duration_until(self.not_after) / 3 * 2
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        formatter
            .debug_struct("Leaf")
            .field("dns_names", &self.dns_names)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: SignedDuration = SignedDuration::from_hours(24 * 30);

    fn now() -> Timestamp {
        "2030-06-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_leaf_is_back_dated_lives_as_long_as_it_should_and_is_renewed_after_two_thirds() {
        for (life, due) in
            [(LIFE, LIFE / 3 * 2), (SignedDuration::from_secs(60), SignedDuration::from_secs(40))]
        {
            let leaf =
                Authority::ephemeral(now()).unwrap().issue(&["a.b.svc".to_owned()], life, now()).unwrap();
            assert_eq!(leaf.not_before(), now() - BACK_DATED);
            assert_eq!(leaf.not_after(), now() + life);
            assert_eq!(leaf.renew_at(), now() + due);
        }
    }

    #[test]
    fn a_leaf_does_not_outlive_its_ca() {
        let authority = Authority::ephemeral(now()).unwrap();
        let late = authority.not_after() - SignedDuration::from_hours(1);
        assert_eq!(
            authority.issue(&["a.b.svc".to_owned()], LIFE, late).unwrap().not_after(),
            authority.not_after()
        );
    }

    #[test]
    fn no_name_no_certificate() {
        let refused = Authority::ephemeral(now()).unwrap().issue(&[], LIFE, now()).unwrap_err();
        assert!(refused.to_string().contains("no DNS name was given"));
    }
}
