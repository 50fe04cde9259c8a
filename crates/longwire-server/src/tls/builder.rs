//! The options of a server's TLS.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    DEFAULT_VERSIONS, KeyLogFile, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tracing::warn;

use super::certificate::certificates;
use super::names::Name;
use super::provider::{provider, ticketer};
use super::reload::Reload;
use super::resolver::{Assignment, Resolver};
use crate::{TlsCertificate, TlsConfig, TlsError};

/// The options of a server's TLS, from [`TlsConfig::builder`].
///
/// # Examples
///
/// Two domains, and a certificate for clients that request no name or another one:
///
/// ```no_run
/// # fn example() -> Result<(), longwire_server::TlsError> {
/// use longwire_server::{TlsCertificate, TlsConfig};
///
/// let tls = TlsConfig::builder()
///     .certificate(TlsCertificate::from_files("default.pem", "default.key"))
///     .certificate_for(["example.com", "*.example.com"], TlsCertificate::from_files("com.pem", "com.key"))
///     .certificate_for(["example.org"], TlsCertificate::from_files("org.pem", "org.key"))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TlsBuilder {
    default: Option<TlsCertificate>,
    named: Vec<(Vec<String>, TlsCertificate)>,
    refuses_unknown_names: bool,
    clients: Clients,
    versions: &'static [&'static SupportedProtocolVersion],
    reload_every: Option<Duration>,
    logs_keys: bool,
}

/// The certificates of clients, by the PEM of the authorities that sign them.
#[derive(Debug)]
enum Clients {
    Ignored,
    Requested(Vec<u8>),
    Required(Vec<u8>),
}

impl Default for TlsBuilder {
    fn default() -> Self {
        Self {
            default: None,
            named: Vec::new(),
            refuses_unknown_names: false,
            clients: Clients::Ignored,
            versions: DEFAULT_VERSIONS,
            reload_every: Some(Duration::from_secs(60)),
            logs_keys: false,
        }
    }
}

impl TlsBuilder {
    /// Sets the certificate for clients that request no name, such as those that connect to an address, and for names
    /// without a certificate of their own.
    ///
    /// Without it, these clients are refused with a TLS alert.
    pub fn certificate(mut self, certificate: TlsCertificate) -> Self {
        self.default = Some(certificate);
        self
    }

    /// Adds a certificate for clients that request one of these names (SNI, RFC 6066 §3).
    ///
    /// A name is a host name, or a wildcard such as `*.example.com`, which covers exactly one label. A host name takes
    /// precedence over a wildcard. [`build`](Self::build) checks that the certificate is valid for each name.
    pub fn certificate_for<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
        certificate: TlsCertificate,
    ) -> Self {
        self.named.push((names.into_iter().map(Into::into).collect(), certificate));
        self
    }

    /// Refuses clients that request a name which no [`certificate_for`](Self::certificate_for) lists, with a TLS
    /// alert. Default: they get the [`certificate`](Self::certificate).
    ///
    /// Clients that request no name still get the certificate.
    pub fn refuse_unknown_names(mut self) -> Self {
        self.refuses_unknown_names = true;
        self
    }

    /// Requires from each client, whatever name it requests, a certificate signed by one of these authorities (PEM).
    ///
    /// [`Request::peer_certificates`](crate::Request::peer_certificates) returns it, for instance in
    /// [`Server::authorize`](crate::Server::authorize). Sessions are not resumed: a resumed session would bring back
    /// a certificate that may have expired since it was checked.
    pub fn require_client_certificates(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.clients = Clients::Required(authorities.into());
        self
    }

    /// Does the same as [`require_client_certificates`](Self::require_client_certificates), but also accepts clients
    /// without a certificate: the application decides on them, for instance in
    /// [`Server::authorize`](crate::Server::authorize). A certificate that has expired or is not signed by one of
    /// the authorities still ends the TLS handshake.
    pub fn request_client_certificates(mut self, authorities: impl Into<Vec<u8>>) -> Self {
        self.clients = Clients::Requested(authorities.into());
        self
    }

    /// Refuses TLS 1.2. Default: versions 1.2 and 1.3.
    pub fn tls13_only(mut self) -> Self {
        self.versions = TLS13_ONLY;
        self
    }

    /// Sets the shortest time between two looks at the files of [`TlsCertificate::from_files`]; `None` reads them only
    /// once, for instance if the process gives up the right to read them. Default: 60 s.
    ///
    /// The handshake of a client looks at the files if the time has passed; it waits for this, and others that begin
    /// meanwhile do not. A certificate is replaced if the content of its files has changed, which is logged. If the new
    /// content cannot be used (a file is missing or malformed, the certificate and the key do not belong together, or
    /// the certificate is not valid for its names), the previous one stays in use, with one warning in the log. The
    /// files can therefore be replaced one after the other. Replace each by renaming, so that none is read in part.
    ///
    /// Established connections are not affected, and a client that resumes a session sees no certificate. The
    /// authorities of clients' certificates are not followed: set a new configuration with
    /// [`ServerHandle::set_tls`](crate::ServerHandle::set_tls).
    pub fn reload_every(mut self, interval: Option<Duration>) -> Self {
        self.reload_every = interval;
        self
    }

    /// Appends the secrets of all sessions to the file that the environment variable `SSLKEYLOGFILE` names, in the
    /// format of Wireshark, for debugging. Nothing is written if the variable is not set, or if the file cannot be
    /// opened.
    ///
    /// Whoever reads the file can decrypt every recorded connection. Do not call this in a program that is deployed,
    /// unless an explicit setting asks for it.
    pub fn dangerously_log_keys(mut self) -> Self {
        self.logs_keys = true;
        self
    }

    /// Reads the files, blocking, and checks the certificates.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if there is no certificate, a file cannot be read, the PEM has the wrong content, a key is not that
    /// of its certificate, or a name is malformed, repeated, or not one that its certificate is valid for.
    pub fn build(self) -> Result<TlsConfig, TlsError> {
        let provider = provider()?;
        let verifier = self.clients.verifier(&provider)?;
        let parse = |names: Vec<String>| names.iter().map(|name| Name::parse(name)).collect::<Result<_, _>>();
        let named = self.named.into_iter().map(|(names, certificate)| Ok((parse(names)?, certificate)));
        let assignment = Assignment {
            named: named.collect::<Result<_, TlsError>>()?,
            default: self.default,
            refuses_unknown_names: self.refuses_unknown_names,
        };
        let resolver = Arc::new(Resolver::new(assignment, Arc::clone(&provider))?);
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(self.versions)?;
        let has_clients = verifier.is_some();
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&resolver) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if has_clients {
            // A resumed session would bring back a certificate that was checked once and may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else if let Some(ticketer) = ticketer()? {
            // The state is at the client. Otherwise it is here, for the last 256 sessions.
            config.ticketer = ticketer;
        }
        if self.logs_keys {
            if std::env::var_os(KEY_LOG_VARIABLE).is_some() {
                warn!("the secrets of TLS sessions are written to the file that {KEY_LOG_VARIABLE} names");
            }
            config.key_log = Arc::new(KeyLogFile::new());
        }
        let reload = self.reload_every.filter(|_| resolver.has_files());
        let reload = reload.map(|every| Arc::new(Reload::new(Arc::clone(&resolver), every)));
        Ok(TlsConfig { config: Arc::new(config), resolver: Some(resolver), reload })
    }
}

impl Clients {
    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Self::Requested(authorities) | Self::Required(authorities)) = self else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots.add(authority).map_err(TlsError::Authority)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let verifier = match self {
            Self::Required(_) => verifier,
            _ => verifier.allow_unauthenticated(),
        };
        Ok(Some(verifier.build()?))
    }
}

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

/// The variable that [`KeyLogFile`] reads.
const KEY_LOG_VARIABLE: &str = "SSLKEYLOGFILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_followed_each_minute_unless_it_is_set_otherwise() {
        let builder = TlsConfig::builder();
        assert_eq!(builder.reload_every, Some(Duration::from_secs(60)));
        assert_eq!(builder.reload_every(None).reload_every, None);
    }
}
