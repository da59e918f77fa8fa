//! What the sidecar is told at its start: command line and environment.
//!
//! Pure. What must stay true: what is missing or wrong is named, and ends with exit code 2, which fences nothing.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::resolve::Resolver;
use super::tls;

/// All of it, checked.
pub(crate) struct Settings {
    pub(crate) pod_uid: String,
    /// Namespace and name, for the log.
    pub(crate) pod: String,
    /// Host and port as they were given.
    pub(crate) sessions: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) name: ServerName<'static>,
    pub(crate) trusted: Arc<ClientConfig>,
    pub(crate) grant: String,
    pub(crate) token: String,
    pub(crate) resolver: Resolver,
}

impl Settings {
    /// None: help was asked for. The error is a sentence.
    pub(crate) fn new(
        mut arguments: impl Iterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let mut grant = "/konductor/grant".to_owned();
        let mut token = "/konductor-session/token".to_owned();
        let mut resolver =
            Resolver { configuration: "/etc/resolv.conf".to_owned(), hosts: "/etc/hosts".to_owned() };
        while let Some(argument) = arguments.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let mut value =
                || value.clone().or_else(|| arguments.next()).ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--grant" => grant = value()?,
                "--token" => token = value()?,
                "--resolv" => resolver.configuration = value()?,
                "--hosts" => resolver.hosts = value()?,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("{other} is unknown")),
            }
        }
        let known = |name: &str| variable(name).filter(|value| !value.is_empty());
        let pod_uid = known("KONDUCTOR_POD_UID")
            .ok_or("KONDUCTOR_POD_UID is not set, so no grant could be recognised as ours")?;
        let sessions = known("KONDUCTOR_SESSIONS")
            .ok_or("KONDUCTOR_SESSIONS is not set: the host and port at which the operator hears renewals")?;
        let wrong = || format!("KONDUCTOR_SESSIONS is no host:port: {sessions}");
        let (host, port) = sessions.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let certain = host.strip_suffix('.').unwrap_or(&host).to_owned();
        let name = ServerName::try_from(certain).map_err(|_| wrong())?;
        let certificates = known("KONDUCTOR_SESSIONS_CA")
            .ok_or("KONDUCTOR_SESSIONS_CA is not set: the certificates by which the operator is known")?;
        let trusted = tls::trusting(&certificates)
            .ok_or("KONDUCTOR_SESSIONS_CA has no certificate (PEM) by which the operator could be known")?;
        let pod = format!(
            "{}/{}",
            known("KONDUCTOR_POD_NAMESPACE").unwrap_or_else(|| "NAMESPACE".to_owned()),
            known("KONDUCTOR_POD_NAME").unwrap_or_else(|| "NAME".to_owned())
        );
        Ok(Some(Self { pod_uid, pod, sessions, host, port, name, trusted, grant, token, resolver }))
    }
}
