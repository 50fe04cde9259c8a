//! TLS: trusted and untrusted certificates, and the meaning of a truncated stream.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod support;

use std::sync::Arc;
use std::time::Duration;

use longwire_client::reconnect::Outage;
use longwire_client::{Client, ClientStream, Error, InvalidOption, TlsConfig, TlsError, rustls};
use longwire_connection::Message;
use support::tls::{Authority, Leaf, accepting, acceptor, provider};
use support::{SWITCHING, field, fill, read_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Serves one connection over TLS: the 101, then `frames`. The task yields the request and the client's part of the
/// TLS session.
async fn serve(acceptor: TlsAcceptor, frames: Vec<u8>, end: End) -> (u16, JoinHandle<Option<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.ok()?;
        let session = stream.get_ref().1;
        let seen = Seen {
            name: session.server_name().map(str::to_owned),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            certificates: session.peer_certificates().map_or(0, <[_]>::len),
            request: String::new(),
        };
        let request = read_request(&mut stream).await;
        stream.write_all(&[fill(SWITCHING, &request), frames].concat()).await.unwrap();
        stream.flush().await.unwrap();
        match end {
            End::Cut => drop(stream),
            End::Notify => stream.shutdown().await.unwrap(),
            End::Never => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            }
        }
        Some(Seen { request, ..seen })
    });
    (port, task)
}

enum End {
    /// Closes TCP without closing TLS.
    Cut,
    /// Closes TLS.
    Notify,
    /// Waits for the client to close.
    Never,
}

struct Seen {
    name: Option<String>,
    alpn: Option<Vec<u8>>,
    certificates: usize,
    request: String,
}

#[tokio::test]
async fn connects_to_a_server_that_it_trusts() {
    let authority = Authority::new();
    for scheme in ["wss", "https", "WSS"] {
        let (port, server) = serve(acceptor(&authority.leaf("localhost")), HELLO.to_vec(), End::Never).await;
        let client = Client::new(format!("{scheme}://localhost:{port}/chat")).tls(trusting(&authority));
        let (mut ws, _) = client.connect().await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
        let alpn = ws.with_transport(|io: &ClientStream| {
            assert!(io.tcp().unwrap().nodelay().unwrap());
            io.tls().unwrap().alpn_protocol().map(<[u8]>::to_vec)
        });
        assert_eq!(alpn.unwrap().unwrap(), b"http/1.1");
        ws.abort();
        let seen = server.await.unwrap().unwrap();
        assert_eq!(seen.name.as_deref(), Some("localhost"), "SNI");
        assert_eq!(seen.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(seen.certificates, 0);
        assert_eq!(field(&seen.request, "Host"), format!("localhost:{port}"));
    }
}

#[tokio::test]
async fn connects_to_an_address_without_naming_it() {
    let authority = Authority::new();
    let (port, server) = serve(acceptor(&authority.leaf("127.0.0.1")), Vec::new(), End::Never).await;
    let client = Client::new(format!("wss://127.0.0.1:{port}/")).tls(trusting(&authority));
    client.connect().await.unwrap().0.abort();
    // "Literal IPv4 and IPv6 addresses are not permitted in HostName" (RFC 6066 §3)
    assert_eq!(server.await.unwrap().unwrap().name, None);
}

#[tokio::test]
async fn refuses_a_server_that_it_does_not_trust() {
    let authority = Authority::new();
    let ours = || Some(trusting(&authority));
    for (case, leaf, tls) in [
        ("another authority", Authority::new().leaf("localhost"), ours()),
        ("self-signed", Leaf::self_signed("localhost"), ours()),
        ("another host", authority.leaf("example.com"), ours()),
        ("an address for a name", authority.leaf("127.0.0.1"), ours()),
        ("expired", authority.expired_leaf("localhost"), ours()),
        ("unknown to the system", authority.leaf("localhost"), None),
    ] {
        let (port, server) = serve(acceptor(&leaf), Vec::new(), End::Never).await;
        let client = Client::new(format!("wss://u:p@localhost:{port}/"));
        let error = match tls {
            Some(tls) => client.tls(tls).connect().await,
            None => client.connect().await,
        };
        assert!(
            matches!(&error, Err(Error::Tls(TlsError::Handshake(rustls::Error::InvalidCertificate(_)))))
                || cfg!(not(feature = "platform-roots")) && case == "unknown to the system",
            "{case}: {error:?}"
        );
        assert!(server.await.unwrap().is_none(), "{case}: nothing was asked");
    }
}

#[tokio::test]
async fn accepts_any_certificate_only_when_it_is_told_to() {
    for leaf in [
        Leaf::self_signed("localhost"),
        Authority::new().leaf("example.com"),
        Authority::new().expired_leaf("localhost"),
    ] {
        let (port, _server) = serve(acceptor(&leaf), HELLO.to_vec(), End::Never).await;
        let tls = TlsConfig::new().dangerously_accept_any_certificate();
        let (mut ws, _) = Client::new(format!("wss://localhost:{port}/")).tls(tls).connect().await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
        ws.abort();
    }
}

#[tokio::test]
async fn shows_its_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let identity = authority.leaf("client");
    let own = trusting(&authority).client_certificate_pem(&identity.chain, &identity.key).unwrap();
    let requiring = || accepting(&authority.leaf("localhost"), Some(&authority));
    let (port, server) = serve(requiring(), HELLO.to_vec(), End::Never).await;
    let (mut ws, _) = Client::new(format!("wss://localhost:{port}/")).tls(own).connect().await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
    ws.abort();
    assert_eq!(server.await.unwrap().unwrap().certificates, 1);

    // In TLS 1.3, the server's refusal arrives after the client has completed the handshake.
    let (port, server) = serve(requiring(), Vec::new(), End::Never).await;
    let error = Client::new(format!("wss://localhost:{port}/")).tls(trusting(&authority)).connect().await;
    // In TLS 1.3 the refusal arrives after the client's handshake has ended.
    let error = error.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Tls(TlsError::Handshake(_))), "{error:?}");
    assert!(!Outage::Connect(error).is_temporary(), "another attempt is refused as well");
    assert!(server.await.unwrap().is_none());
}

#[tokio::test]
async fn shows_a_certificate_from_files() {
    let authority = Authority::new();
    let identity = authority.leaf("client");
    let directory = std::env::temp_dir().join(format!("longwire-client-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let [chain, key, missing] = ["chain.pem", "key.pem", "missing.pem"].map(|name| directory.join(name));
    std::fs::write(&chain, &identity.chain).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let tls = trusting(&authority).client_certificate_files(&chain, &key).unwrap();
    for [chain, key] in [[&missing, &key], [&chain, &missing]] {
        let error = TlsConfig::new().client_certificate_files(chain, key).unwrap_err();
        assert!(matches!(&error, TlsError::File { path, .. } if *path == missing), "{error:?}");
    }
    let swapped = TlsConfig::new().client_certificate_files(&key, &chain);
    assert!(matches!(swapped, Err(TlsError::NoCertificate)));
    // The files were read when they were named.
    std::fs::remove_dir_all(&directory).unwrap();

    let acceptor = accepting(&authority.leaf("localhost"), Some(&authority));
    let (port, server) = serve(acceptor, HELLO.to_vec(), End::Never).await;
    let (mut ws, _) = Client::new(format!("wss://localhost:{port}/")).tls(tls).connect().await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
    ws.abort();
    assert_eq!(server.await.unwrap().unwrap().certificates, 1);
}

#[tokio::test]
async fn names_a_peer_that_does_not_speak_tls() {
    let authority = Authority::new();
    for (case, answer) in [("HTTP", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), ("nothing", b"")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(answer).await.unwrap();
        });
        let error = Client::new(format!("wss://localhost:{port}/")).tls(trusting(&authority)).connect().await;
        assert!(
            matches!(error, Err(Error::Tls(TlsError::Handshake(_)) | Error::ClosedEarly)),
            "{case}: {error:?}"
        );
    }
}

#[tokio::test]
async fn keeps_its_deadline_while_the_peer_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new(format!("wss://localhost:{port}/"))
        .tls(trusting(&Authority::new()))
        .handshake_timeout(Duration::from_millis(50));
    assert!(matches!(client.connect().await, Err(Error::Timeout { .. })));
}

#[tokio::test]
async fn takes_a_cut_for_an_error_and_not_for_an_end() {
    let authority = Authority::new();
    for (case, frames, end, messages, clean) in [
        ("cut in a message", &b"\x81\x05hello\x81\x05he"[..], End::Cut, 1, false),
        ("cut in a header", b"\x81\x05hello\x81", End::Cut, 1, false),
        ("cut between messages", b"\x81\x05hello", End::Cut, 1, false),
        ("cut before anything", b"", End::Cut, 0, false),
        ("end in a message", b"\x81\x05hello\x81\x05he", End::Notify, 1, false),
        ("end between messages", b"\x81\x05hello", End::Notify, 1, false),
        ("cut behind a close frame", b"\x81\x05hello\x88\x02\x03\xe8", End::Cut, 1, true),
        ("end behind a close frame", b"\x81\x05hello\x88\x02\x03\xe8", End::Notify, 1, true),
    ] {
        let (port, _server) = serve(acceptor(&authority.leaf("localhost")), frames.to_vec(), end).await;
        let client = Client::new(format!("wss://localhost:{port}/")).tls(trusting(&authority));
        let (mut ws, _) = client.connect().await.expect(case);
        for _ in 0..messages {
            assert_eq!(ws.recv().await.expect(case), Some(Message::text("hello")), "{case}");
        }
        let end = ws.recv().await;
        assert_eq!(end.is_ok(), clean, "{case}: {end:?}");
        assert!(!matches!(end, Ok(Some(_))), "{case}: {end:?}");
    }
}

#[tokio::test]
async fn carries_large_messages_both_ways() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.leaf("localhost"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        let handover = longwire_connection::Handover::server();
        let mut ws =
            longwire_connection::WebSocket::new(stream, handover, &longwire_client::Config::default());
        while let Some(message) = ws.recv().await.unwrap() {
            ws.send(message).await.unwrap();
        }
    });
    let client = Client::new(format!("wss://localhost:{port}/")).tls(trusting(&authority));
    let (mut ws, _) = client.connect().await.unwrap();
    for len in [0, 1, 125, 16 * 1024 - 14, 16 * 1024, 1 << 20, 5 << 20] {
        let message = Message::binary(vec![7; len]);
        ws.send(message.clone()).await.unwrap();
        assert_eq!(ws.recv().await.unwrap(), Some(message), "{len}");
    }
    ws.close(1000, "").await.unwrap();
}

#[tokio::test]
async fn uses_a_configuration_of_rustls_as_it_is() {
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (port, _server) = serve(acceptor(&authority.leaf("localhost")), Vec::new(), End::Never).await;
    let client = Client::new(format!("wss://localhost:{port}/")).tls(Arc::new(config));
    let (ws, _) = client.connect().await.unwrap();
    let version = ws.with_transport(|io: &ClientStream| io.tls().unwrap().protocol_version());
    assert_eq!(version, Some(Some(rustls::ProtocolVersion::TLSv1_2)));
    ws.abort();
}

#[test]
fn refuses_what_is_no_certificate() {
    let authority = Authority::new();
    let leaf = authority.leaf("localhost");
    let new = TlsConfig::new;
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(new().root_certificates_pem(""), Err(TlsError::NoCertificate)));
    assert!(matches!(new().root_certificates_pem("text"), Err(TlsError::NoCertificate)));
    assert!(matches!(new().root_certificates_pem(&leaf.key), Err(TlsError::NoCertificate)));
    assert!(matches!(new().root_certificates_pem(broken), Err(TlsError::Pem(_))));
    assert!(matches!(new().root_certificates_file("/nonexistent/ca.pem"), Err(TlsError::File { .. })));
    assert!(matches!(new().client_certificate_pem(&leaf.chain, &leaf.chain), Err(TlsError::Pem(_))));
    assert!(matches!(new().client_certificate_pem("", &leaf.key), Err(TlsError::NoCertificate)));
    let whole = || {
        let builder = rustls::ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let roots = builder.with_root_certificates(rustls::RootCertStore::empty());
        TlsConfig::from(Arc::new(roots.with_no_client_auth()))
    };
    assert!(matches!(whole().client_certificate_pem(&leaf.chain, &leaf.key), Err(TlsError::RustlsConfig)));
    assert!(matches!(whole().root_certificates_pem(&leaf.chain), Err(TlsError::RustlsConfig)));
}

#[tokio::test]
async fn finds_a_key_that_is_another_certificates_before_it_dials() {
    let authority = Authority::new();
    let (one, other) = (authority.leaf("one"), authority.leaf("other"));
    let tls = TlsConfig::new().root_certificates_pem(&authority.pem).unwrap();
    let tls = tls.client_certificate_pem(one.chain, other.key).unwrap();
    assert!(!format!("{tls:?}").contains("PRIVATE"));
    let error = Client::new("wss://localhost:1/").tls(tls).connect().await.unwrap_err();
    assert!(matches!(error, Error::Option(InvalidOption::Tls(TlsError::Config(_)))), "{error:?}");
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().root_certificates_pem(&authority.pem).unwrap()
}

/// A server's text frame with `hello`.
const HELLO: &[u8] = b"\x81\x05hello";
