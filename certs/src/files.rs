//! Files: a leaf that somebody else issues, cert-manager for instance, and puts into a folder.
//!
//! May touch: reads two files. What must stay true: what cannot be served is not taken up, so a half-written or a wrong pair
//! leaves the leaf in use; the folder is read anew each time, because a mounted Secret is swapped under its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::leaf::Leaf;

/// The chain, the leaf first, as PEM.
const CERTIFICATE: &str = "tls.crt";
/// Its private key, as PEM.
const PRIVATE_KEY: &str = "tls.key";

/// Where the leaf is put.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    dns_names: Vec<String>,
}

/// Why what is there cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; whoever issues the certificate has to put another pair there", path.display())]
pub struct FilesError {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    problem: String,
}

impl Files {
    /// A certificate for these DNS names is put into that folder.
    pub fn new(directory: &Path, dns_names: Vec<String>) -> Self {
        Self { directory: directory.to_owned(), dns_names }
    }

    /// The leaf that is there now.
    pub fn read(&self, now: Timestamp) -> Result<Leaf, FilesError> {
        let chain = self.parsed(CERTIFICATE, |pem| {
            CertificateDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| error.to_string())
        })?;
        let key = self.parsed(PRIVATE_KEY, |pem| {
            let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
            any_supported_type(&key).map_err(|error| error.to_string())
        })?;
        let wrong = |name: &str, problem: String| FilesError { path: self.directory.join(name), problem };
        let first = chain.first().ok_or_else(|| wrong(CERTIFICATE, "it holds no certificate".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| wrong(CERTIFICATE, format!("its first certificate cannot be read ({error})")))?;
        let moment = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(now);
        let not_before = moment(parsed.validity().not_before.timestamp());
        let not_after = moment(parsed.validity().not_after.timestamp());
        if not_after <= now {
            return Err(wrong(CERTIFICATE, format!("it has expired at {not_after}")));
        }
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(wrong(PRIVATE_KEY, format!("it is not the key of {CERTIFICATE}"))),
        }
        Ok(Leaf::of_others(Arc::new(certified), self.dns_names.clone(), not_before, not_after))
    }

    fn parsed<T>(&self, name: &str, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Result<T, FilesError> {
        let path = self.directory.join(name);
        let read = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|pem| parse(&pem));
        read.map_err(|problem| FilesError { path, problem })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::authority::set_validity;

    const LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

    fn now() -> Timestamp {
        "2030-06-01T12:00:00Z".parse().unwrap()
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.b.svc".to_owned()]).unwrap();
        set_validity(&mut params, now() - LIFE, now() + LIFE);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(certificate: &str, key: &str, at: Timestamp) -> Result<Leaf, String> {
        let folder = std::env::temp_dir().join(format!(
            "konductor-files-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(CERTIFICATE), certificate).unwrap();
        std::fs::write(folder.join(PRIVATE_KEY), key).unwrap();
        let read = Files::new(&folder, vec!["a.b.svc".to_owned()]).read(at);
        std::fs::remove_dir_all(&folder).unwrap();
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_pair_is_read_as_the_leaf_that_it_is() {
        let (certificate, key) = pair();
        let leaf = read(&certificate, &key, now()).unwrap();
        assert_eq!((leaf.not_before(), leaf.not_after()), (now() - LIFE, now() + LIFE));
        assert_eq!(leaf.dns_names(), ["a.b.svc"]);
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_file_and_reason() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        for (certificate, key, at, words) in [
            ("", key.as_str(), now(), "tls.crt: it holds no certificate"),
            ("hello", &key, now(), "tls.crt: it holds no certificate"),
            (&certificate, "", now(), "tls.key: "),
            (&certificate, &other, now(), "tls.key: it is not the key of tls.crt"),
            (&certificate, &key, now() + LIFE, "tls.crt: it has expired at 2030-06-01T13:00:00Z"),
        ] {
            let error = read(certificate, key, at).unwrap_err();
            assert!(error.contains(words), "{words:?} is not in {error:?}");
        }
        let nowhere = Files::new(Path::new("/nowhere/at/all"), Vec::new()).read(now()).unwrap_err();
        assert!(nowhere.to_string().starts_with("/nowhere/at/all/tls.crt: No such file"), "{nowhere}");
    }
}
