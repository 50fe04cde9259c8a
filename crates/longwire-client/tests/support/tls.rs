//! Certificates generated for a test, and servers that present them.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// A certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, as PEM.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pem = issuer.pem();
        Self { issuer, pem }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.sign(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    pub(crate) fn expired_leaf(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Leaf {
    pub(crate) fn self_signed(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        Self { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

/// Returns an acceptor that presents this certificate to any client.
pub(crate) fn acceptor(leaf: &Leaf) -> TlsAcceptor {
    accepting(leaf, None)
}

/// Returns an acceptor that presents this certificate. If `clients` is set, it must have issued the client's
/// certificate.
pub(crate) fn accepting(leaf: &Leaf, clients: Option<&Authority>) -> TlsAcceptor {
    verifying(leaf, clients.map(|authority| vouched_for_by(authority).build().unwrap()))
}

/// Returns an acceptor for clients with a certificate of this authority, and for clients without any.
pub(crate) fn asking(leaf: &Leaf, clients: &Authority) -> TlsAcceptor {
    verifying(leaf, Some(vouched_for_by(clients).allow_unauthenticated().build().unwrap()))
}

fn vouched_for_by(authority: &Authority) -> ClientCertVerifierBuilder {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
}

fn verifying(leaf: &Leaf, verifier: Option<Arc<dyn ClientCertVerifier>>) -> TlsAcceptor {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let (chain, key) = chain(leaf);
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Returns a certificate and its key in the types of rustls.
pub(crate) fn chain(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(leaf.chain.as_bytes()).unwrap()];
    (chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap())
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
