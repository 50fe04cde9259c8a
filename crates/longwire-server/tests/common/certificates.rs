//! Certificates generated for a test, clients that trust them, and a place for files.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longwire_connection::testing::repeatable_keys;
use longwire_connection::{Config, Handover, WebSocket};
use longwire_server::TlsCertificate;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion};

use super::{REQUEST, soon, tcp};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn leaf<const N: usize>(&self, names: [&str; N]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Leaf { chain, key: key.serialize_pem() }
    }

    /// Returns the configuration of a client that trusts this authority, with a memory for sessions of its own.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_with(DEFAULT_VERSIONS)
    }

    pub(crate) fn client_with(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

impl Leaf {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    pub(crate) fn pem(&self) -> TlsCertificate {
        TlsCertificate::from_pem(self.chain.as_bytes(), self.key.as_bytes())
    }
}

/// Performs a TLS handshake that requests `name`.
pub(crate) async fn connect(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = name.to_owned().try_into().expect("a name");
    soon(TlsConnector::from(Arc::clone(config)).connect(name, tcp(addr).await)).await
}

/// Opens a WebSocket over TLS. Returns it with the server's certificate.
pub(crate) async fn open(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> (WebSocket<TlsStream<TcpStream>>, CertificateDer<'static>) {
    let mut stream = connect(addr, config, name).await.expect("a TLS handshake");
    let presented = presented(&stream);
    stream.write_all(REQUEST.as_bytes()).await.expect("the server is there");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a response"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    let ws = WebSocket::new(stream, Handover::client(repeatable_keys), &Config::default());
    (ws, presented)
}

/// Returns the server's own certificate.
pub(crate) fn presented(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("a server presents one")[0].clone().into_owned()
}

pub(crate) async fn check_echo(ws: &mut WebSocket<TlsStream<TcpStream>>, message: &str) {
    ws.send(message).await.expect("the connection is open");
    assert_eq!(soon(ws.recv()).await.expect("an echo"), Some(message.into()));
}

/// A directory with the files of a certificate.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("longwire-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn certificate(&self) -> TlsCertificate {
        TlsCertificate::from_files(self.path("cert.pem"), self.path("key.pem"))
    }

    pub(crate) fn write(&self, leaf: &Leaf) {
        replace(&self.path("cert.pem"), &leaf.chain);
        replace(&self.path("key.pem"), &leaf.key);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Replaces a file as a whole.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}
