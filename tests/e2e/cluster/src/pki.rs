//! The certificates of a cluster: one authority, and a certificate for everybody who speaks.
//!
//! May touch: randomness, nothing else; [`crate::layout`] writes the files. What must stay true: who may do what
//! follows from the subject alone (CN is the user, O the group), as in any Kubernetes.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Everything in PEM.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    /// The authority's certificate, which everybody trusts.
    pub(crate) authority: String,
    /// Its key, with which the controller manager signs.
    pub(crate) authority_key: String,
    /// Private half of what service account tokens are signed with.
    pub(crate) accounts_key: String,
    /// Public half.
    pub(crate) accounts_public: String,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    /// A new authority.
    pub(crate) fn new() -> Result<Self> {
        let key = KeyPair::generate().context("making the authority's key")?;
        let accounts = KeyPair::generate().context("making the key for service accounts")?;
        let mut params = named("konductor-cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let authority = params.self_signed(&key).context("signing the authority")?.pem();
        Ok(Self {
            authority,
            authority_key: key.serialize_pem(),
            accounts_key: accounts.serialize_pem(),
            accounts_public: accounts.public_key_pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority and the keys that an earlier run made.
    pub(crate) fn of(
        authority: String,
        authority_key: String,
        accounts_key: String,
        accounts_public: String,
    ) -> Result<Self> {
        let key = KeyPair::from_pem(&authority_key).context("reading the authority's key")?;
        let issuer = Issuer::from_ca_cert_pem(&authority, key).context("reading the authority")?;
        Ok(Self { issuer, authority, authority_key, accounts_key, accounts_public })
    }

    /// For whoever calls: `user` in `group`.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = named(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, user)
    }

    /// For whoever is called, by these names and addresses.
    pub(crate) fn server(&self, name: &str, alternatives: &[&str]) -> Result<Identity> {
        let names: Vec<_> = alternatives.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).context("a name for a server certificate")?;
        describe(&mut params, name, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, name)
    }

    fn sign(&self, mut params: CertificateParams, name: &str) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().with_context(|| format!("making the key of {name}"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("signing the certificate of {name}"))?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn named(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    describe(&mut params, user, group);
    params
}

fn describe(params: &mut CertificateParams, user: &str, group: Option<&str>) {
    // Longer than any cluster of this kind lives, and from before any clock that is a little slow.
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2124, 1, 1);
    // rcgen puts a name of its own there.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_key_is_a_pair_in_pem() {
        let pki = Pki::new().unwrap();
        assert!(pki.accounts_public.starts_with("-----BEGIN PUBLIC KEY-----"), "{}", pki.accounts_public);
        let pair = KeyPair::from_pem(&pki.accounts_key).unwrap();
        assert_eq!(pair.public_key_pem(), pki.accounts_public);
    }

    #[test]
    fn a_client_has_a_key_of_its_own() {
        let pki = Pki::new().unwrap();
        let (one, two) = (pki.client("a", Some("g")).unwrap(), pki.client("a", Some("g")).unwrap());
        assert_ne!(one.key, two.key);
        assert_ne!(one.certificate, two.certificate);
    }

    #[test]
    fn a_server_takes_names_and_addresses() {
        let pki = Pki::new().unwrap();
        pki.server("kube-apiserver", &["localhost", "127.0.0.1"]).unwrap();
        assert!(pki.server("kube-apiserver", &["not a name\u{e9}"]).is_err());
    }
}
