//! TLS with the caller's own rustls configuration: no server name, and protocol versions that do not overlap.

#![cfg(feature = "tls")]

mod support;

use std::sync::Arc;

use longwire_client::{Client, Error, TlsError, rustls};
use support::tls::{Authority, acceptor, chain, provider};
use support::{SWITCHING, fill, read_request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn client_config(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Serves one connection. The task yields the server name that the client requested, unless TLS failed.
async fn serve(acceptor: TlsAcceptor) -> (u16, tokio::task::JoinHandle<Option<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.ok()?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let request = read_request(&mut stream).await;
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        stream.flush().await.unwrap();
        Some(name)
    });
    (port, task)
}

#[tokio::test]
async fn the_name_of_the_server_can_be_kept_back() {
    let authority = Authority::new();
    for (enable_sni, expected) in [(true, Some("localhost".to_owned())), (false, None)] {
        let (port, server) = serve(acceptor(&authority.leaf("localhost"))).await;
        let mut config = client_config(&authority, rustls::DEFAULT_VERSIONS);
        config.enable_sni = enable_sni;
        let client = Client::new(format!("wss://localhost:{port}/")).tls(Arc::new(config));
        client.connect().await.unwrap().0.abort();
        assert_eq!(server.await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn versions_of_tls_that_do_not_meet_are_one_error() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost");
    let (chain, key) = chain(&leaf);
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (port, server) = serve(TlsAcceptor::from(Arc::new(config))).await;
    let client = Client::new(format!("wss://localhost:{port}/"))
        .tls(Arc::new(client_config(&authority, &[&rustls::version::TLS12])));
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Handshake(rustls::Error::AlertReceived(_)))), "{error:?}");
    assert_eq!(server.await.unwrap(), None);
}
