//! Streams recovered from hyper, and the bytes that hyper had read ahead.

#![cfg(any(unix, feature = "tls"))]

mod common;

use std::net::SocketAddr;

use longwire_hyper::{HandlerResult, Mount, Socket, UpgradedStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use common::{REQUEST, Setup, expect, head, serve, soon, text};

/// The name of a socket's transport, and its peer's address.
type Report = (&'static str, Option<SocketAddr>);

/// Sends messages right after the request, receives their echoes, and reports the transport of the server's socket.
async fn converse(
    setup: Setup,
    server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
) -> Report {
    let (report, mut reported) = mpsc::unbounded_channel();
    let handler = move |mut ws: Socket| {
        let over = ws.with_transport(|io| match io {
            UpgradedStream::Tcp(_) => "TCP",
            #[cfg(unix)]
            UpgradedStream::Unix(_) => "Unix",
            #[cfg(feature = "tls")]
            UpgradedStream::Tls(stream) if stream.get_ref().0.nodelay().unwrap() => "TLS without delay",
            _ => "another",
        });
        let _ = report.send((over.unwrap(), ws.client().peer_addr()));
        async move {
            while let Some(message) = ws.recv().await? {
                ws.send(message).await?;
            }
            HandlerResult::Ok(())
        }
    };
    tokio::spawn(serve(setup, server, Mount::default(), handler));
    let sent = [REQUEST.as_bytes(), &text("first"), &text("second")].concat();
    client.write_all(&sent).await.unwrap();
    assert!(head(&mut client).await.starts_with("http/1.1 101 "), "{setup:?}");
    expect(&mut client, b"\x81\x05first\x81\x06second").await;
    client.write_all(&text("third")).await.unwrap();
    expect(&mut client, b"\x81\x05third").await;
    soon(reported.recv()).await.expect("the handler runs")
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_had_back_from_hyper() {
    for setup in [Setup::Plain, Setup::Auto] {
        let (server, client) = tokio::net::UnixStream::pair().unwrap();
        assert_eq!(converse(setup, server, client).await, ("Unix", None), "{setup:?}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls_is_had_back_from_hyper_and_tells_addresses() {
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let chain = vec![certified.cert.der().clone()];
    let key = certified.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain.clone(), key).unwrap()));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain);
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));

    for setup in [Setup::Plain, Setup::Auto] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let address = client.local_addr().unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let client = connector.connect("localhost".try_into().unwrap(), client);
        let (server, client) = tokio::join!(acceptor.accept(server), client);
        let report = converse(setup, server.unwrap(), client.unwrap()).await;
        assert_eq!(report, ("TLS without delay", Some(address)), "{setup:?}");
    }
}
