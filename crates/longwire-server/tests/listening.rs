//! Sources of clients: Unix sockets, several listeners, shared ports, TLS.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use longwire_connection::testing::repeatable_keys;
use longwire_connection::{Config, Handover, WebSocket};
use longwire_server::{Listen, ListenOptions, Server, ServerStream, TrustedProxies};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use common::{REQUEST, check_echo, open, request_with, soon, start, start_with};

/// Performs the handshake and one echo over any stream.
async fn echo_over<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut io: T) {
    io.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(io.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    let mut ws = WebSocket::new(io, Handover::client(repeatable_keys), &Config::default());
    for len in [0, 5, 200_000] {
        let message = "x".repeat(len);
        ws.send(message.as_str()).await.unwrap();
        assert_eq!(soon(ws.recv()).await.unwrap(), Some(message.into()));
    }
    ws.close(1000, "").await.unwrap();
}

struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("longwire-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn clients_come_over_unix_sockets() {
    let directory = Directory::new("unix");
    let path = directory.0.join("socket");
    let server = Server::bind_unix(&path).unwrap();
    assert_eq!(server.local_addr(), SocketAddr::from(([0, 0, 0, 0], 0)));
    assert!(Server::bind_unix(&path).is_err(), "the file is there");
    let server = start(server);
    echo_over(UnixStream::connect(&path).await.unwrap()).await;
    soon(server.handle.shutdown()).await;
}

#[tokio::test]
async fn proxies_are_trusted_on_unix_sockets() {
    for (case, proxies, expected) in [
        ("none", TrustedProxies::default(), None),
        ("one hop", TrustedProxies::hops(1), Some("203.0.113.9")),
        ("one hop, Forwarded", TrustedProxies::hops(1).forwarded(), Some("203.0.113.10")),
        ("two hops", TrustedProxies::hops(2), Some("203.0.113.8")),
        // A Unix socket has no address, so it is in no network.
        ("networks", TrustedProxies::networks(["0.0.0.0/0", "::/0"]).unwrap(), None),
    ] {
        let directory = Directory::new("proxied");
        let path = directory.0.join("socket");
        let server = Server::bind_unix(&path).unwrap().configure(|config| {
            config.trusted_proxies = proxies;
            config.hub.max_clients_per_address = Some(1);
        });
        let server = start_with(server, move |mut ws, request| async move {
            assert_eq!(request.peer_addr(), None);
            assert_eq!(request.client_ip().map(|ip| ip.to_string()).as_deref(), expected, "{case}");
            assert_eq!(ws.client().peer_addr().map(|addr| addr.ip()), request.client_ip(), "{case}");
            ws.recv().await?;
            Ok(())
        });
        let fields = "X-Forwarded-For: 203.0.113.8, 203.0.113.9\r\nForwarded: for=203.0.113.10";
        let mut open = Vec::new();
        for status in ["101", if expected.is_some() { "503" } else { "101" }] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(request_with(fields).as_bytes()).await.unwrap();
            let mut line = [0; 12];
            soon(stream.read_exact(&mut line)).await.unwrap();
            assert_eq!(line, format!("HTTP/1.1 {status}").as_bytes(), "{case}");
            open.push(stream);
        }
        // The handler has not panicked: it waits for a message.
        assert_eq!(server.handle.hub().len(), if expected.is_some() { 1 } else { 2 }, "{case}");
    }
}

#[tokio::test]
async fn one_server_has_several_listeners() {
    let directory = Directory::new("several");
    let path = directory.0.join("socket");
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second_addr = second.local_addr().unwrap();
    let server = Server::bind_unix(&path).unwrap().add_listener(second);
    assert_eq!(server.local_addr(), second_addr, "the first over TCP");
    let third = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let third_addr = third.local_addr().unwrap();
    let server = start(server.add_listener(third));
    for round in 0..3 {
        echo_over(UnixStream::connect(&path).await.unwrap()).await;
        check_echo(&mut open(second_addr).await, "second").await;
        check_echo(&mut open(third_addr).await, &round.to_string()).await;
    }
    soon(server.handle.shutdown()).await;
    for addr in [second_addr, third_addr] {
        assert!(TcpStream::connect(addr).await.is_err(), "every port is closed");
    }
}

#[tokio::test]
async fn an_ipv6_listener_takes_ipv4_unless_told_otherwise() {
    for only_v6 in [false, true] {
        let options = ListenOptions::default().with_only_v6(only_v6).with_backlog(16);
        let server = Server::bind_with("[::]:0".parse().unwrap(), options).expect("loopback has IPv6");
        let server = start(server);
        let port = server.addr.port();
        check_echo(&mut open(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))).await, "six").await;
        let four = TcpStream::connect(("127.0.0.1", port)).await;
        assert_eq!(four.is_err(), only_v6);
    }
}

/// If the queue is full, the system drops the connection request, and the client retries after a second.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_burst_of_clients_waits_to_be_accepted() {
    let longest = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let clients = longest.trim().parse::<usize>().unwrap().min(500);
    // The server does not accept yet.
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..clients {
        waiting.push(soon(TcpStream::connect(server.local_addr())).await.unwrap());
    }
}

#[tokio::test]
async fn several_servers_share_a_port() {
    let options = ListenOptions::default().with_reuse_port(true);
    let first = Server::bind_with("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let addr = first.local_addr();
    let second = Server::bind_with(addr, options).unwrap();
    assert!(Server::bind_with(addr, ListenOptions::default()).is_err(), "not with one that does not share");
    let hubs = [first.hub().clone(), second.hub().clone()];
    let _running = [start(first), start(second)];
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut client = open(addr).await;
        check_echo(&mut client, "shared").await;
        clients.push(client);
    }
    assert_eq!(hubs[0].len() + hubs[1].len(), 64);
    assert!(hubs.iter().all(|hub| !hub.is_empty()), "64 connections, and none went to one of two");
}

/// A custom listener: it accepts from a Unix socket, and counts.
#[derive(Debug)]
struct Own {
    listener: UnixListener,
    accepted: AtomicUsize,
}

impl Listen for Own {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<(ServerStream, Option<SocketAddr>)>> {
        self.listener.poll_accept(cx).map_ok(|(stream, _)| {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            (ServerStream::Unix(stream), Some(SocketAddr::from(([192, 0, 2, 1], 7))))
        })
    }
}

#[tokio::test]
async fn connections_come_from_an_acceptor_of_ones_own() {
    let directory = Directory::new("own");
    let path = directory.0.join("socket");
    let own = Own { listener: UnixListener::bind(&path).unwrap(), accepted: AtomicUsize::new(0) };
    let server = Server::from_acceptor(own);
    let serving = tokio::spawn(
        server
            .serve(|mut ws, request| async move {
                assert_eq!(request.peer_addr().unwrap().to_string(), "192.0.2.1:7");
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            })
            .into_future(),
    );
    echo_over(UnixStream::connect(&path).await.unwrap()).await;
    serving.abort();
}

#[tokio::test]
async fn a_listener_is_handed_over_with_its_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let addr = listener.local_addr().unwrap();
    let first =
        start(Server::from_listener(TcpListener::from_std(listener.try_clone().unwrap()).unwrap()).unwrap());
    let mut old = open(addr).await;
    check_echo(&mut old, "old").await;
    // The successor starts before the predecessor stops: no client is refused in between.
    let second = start(Server::from_listener(TcpListener::from_std(listener).unwrap()).unwrap());
    let shutdown = tokio::spawn(first.handle.shutdown());
    for _ in 0..20 {
        check_echo(&mut open(addr).await, "new").await;
    }
    assert_eq!(soon(old.recv()).await.unwrap(), None, "the old one is told to leave");
    drop(old);
    soon(shutdown).await.unwrap();
    assert!(!second.handle.hub().is_shutting_down());
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tls {
    use std::sync::Arc;
    use std::time::Duration;

    use longwire_server::{Rejection, TlsConfig, TlsError};
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use tokio::time::sleep;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};

    use super::*;

    /// An authority, and a certificate for `localhost` signed by it, with its key.
    struct Certified {
        authority: String,
        chain: String,
        key: String,
    }

    fn certified() -> Certified {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &authority).unwrap().pem();
        Certified { authority: authority.pem(), chain, key: key.serialize_pem() }
    }

    fn connector(certified: &Certified, with_certificate: bool) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certified.authority.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if with_certificate {
            let chain = vec![CertificateDer::from_pem_slice(certified.chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    #[tokio::test]
    async fn clients_come_over_tls() {
        let certified = certified();
        let tls = TlsConfig::from_pem(certified.chain.as_bytes(), certified.key.as_bytes()).unwrap();
        let server = start(common::bind().await.tls(tls));
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let connector = connector(&certified, false);
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        echo_over(stream).await;
        soon(server.handle.shutdown()).await;
    }

    #[tokio::test]
    async fn a_client_without_tls_or_in_no_hurry_is_cut_off() {
        let certified = certified();
        let tls = TlsConfig::from_pem(certified.chain.as_bytes(), certified.key.as_bytes()).unwrap();
        let server = common::bind().await.tls(tls).configure(|config| {
            config.handshake_timeout = Duration::from_millis(300);
        });
        let server = start(server);
        for first in [REQUEST.as_bytes(), b"", b"\x16\x03\x01"] {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            stream.write_all(first).await.unwrap();
            let mut answer = Vec::new();
            // At most an alert and then the end; or a reset, because the request was not read.
            let _ = soon(stream.read_to_end(&mut answer)).await;
            assert!(!answer.starts_with(b"HTTP"), "{answer:x?}");
        }
        assert!(server.handle.hub().is_empty());
    }

    /// The header of a proxy, TLS and the request share one limit: whoever is late with one has less time for the next.
    /// The order of ends is compared, not their times, so that a busy machine does not matter: the client that came
    /// later and sent nothing has its own limit, and must be the last.
    #[tokio::test]
    async fn a_proxys_header_tls_and_the_request_have_one_deadline_in_all() {
        let limit = Duration::from_secs(1);
        let certified = certified();
        let tls = TlsConfig::from_pem(certified.chain.as_bytes(), certified.key.as_bytes()).unwrap();
        let server = start(common::bind().await.tls(tls).configure(|config| {
            config.handshake_timeout = limit;
            config.proxy_protocol = TrustedProxies::networks(["127.0.0.1"]).unwrap();
        }));
        let after_header = async {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            sleep(limit * 7 / 10).await;
            let _ = stream.write_all(b"PROXY UNKNOWN\r\n").await;
            let _ = soon(stream.read_to_end(&mut Vec::new())).await;
        };
        let after_tls = async {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            stream.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
            sleep(limit * 7 / 10).await;
            let connecting = connector(&certified, false).connect("localhost".try_into().unwrap(), stream);
            if let Ok(mut stream) = connecting.await {
                let _ = soon(stream.read_to_end(&mut Vec::new())).await;
            }
        };
        let later = async {
            sleep(limit * 3 / 10).await;
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            let _ = soon(stream.read_to_end(&mut Vec::new())).await;
        };
        tokio::select! {
            biased;
            _ = async { tokio::join!(after_header, after_tls) } => {}
            () = later => panic!("a part of the handshake had a limit of its own"),
        }
    }

    #[tokio::test]
    async fn clients_show_certificates_where_they_must() {
        let certified = certified();
        let [chain, key, authority] =
            [&certified.chain, &certified.key, &certified.authority].map(String::as_bytes);
        let tls = TlsConfig::from_pem_with_clients(chain, key, authority).unwrap();
        let server = start(common::bind().await.tls(tls));
        let connect = async |with_certificate| {
            let stream = TcpStream::connect(server.addr).await.unwrap();
            connector(&certified, with_certificate).connect("localhost".try_into().unwrap(), stream).await
        };
        echo_over(connect(true).await.unwrap()).await;
        // With TLS 1.3 the refusal arrives after the handshake.
        if let Ok(mut stream) = connect(false).await {
            let _ = stream.write_all(REQUEST.as_bytes()).await;
            assert!(soon(stream.read_u8()).await.is_err());
        }
    }

    /// A certificate is checked for each connection, because it may have expired since the last one. Without client
    /// certificates, sessions are resumed.
    #[tokio::test]
    async fn sessions_of_clients_with_certificates_are_not_resumed() {
        let certified = certified();
        let [chain, key, authority] =
            [&certified.chain, &certified.key, &certified.authority].map(String::as_bytes);
        let with_clients = TlsConfig::from_pem_with_clients(chain, key, authority).unwrap();
        let optional = TlsConfig::from_pem_with_optional_clients(chain, key, authority).unwrap();
        let without = TlsConfig::from_pem(chain, key).unwrap();
        for (tls, second) in [
            (with_clients, HandshakeKind::Full),
            (optional, HandshakeKind::Full),
            (without, HandshakeKind::Resumed),
        ] {
            let server = start(common::bind().await.tls(tls));
            let connector = connector(&certified, true);
            for expected in [HandshakeKind::Full, second] {
                let stream = TcpStream::connect(server.addr).await.unwrap();
                let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
                // The tickets of TLS 1.3 arrive with the first bytes read.
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                soon(stream.read_u8()).await.unwrap();
            }
        }
    }

    /// `authorize` and the handler know the client's TLS identity, and the server name it requested.
    #[tokio::test]
    async fn certificates_and_the_name_are_there_when_a_client_is_let_in() {
        let (certified, other) = (certified(), certified());
        let [chain, key, authority] =
            [&certified.chain, &certified.key, &certified.authority].map(String::as_bytes);
        let tls = TlsConfig::from_pem_with_optional_clients(chain, key, authority).unwrap();
        let own = CertificateDer::from_pem_slice(chain).unwrap();
        let server = common::bind().await.tls(tls).authorize(move |admission| {
            let known = admission.peer_certificates() == [own.clone()];
            async move {
                let name = admission.server_name().map(str::to_owned);
                if known { Ok(admission.with_data(name)) } else { Err(Rejection::unauthorized("Basic")) }
            }
        });
        // The clients here do not answer close frames.
        let server = server.configure(|config| config.connection.close_timeout = Duration::from_millis(100));
        let server = start_with(server, |mut ws, request| async move {
            let seen =
                ws.with_transport(|io| io.tls().map(|tls| tls.peer_certificates().map_or(0, <[_]>::len)));
            let name = request.data::<Option<String>>().cloned();
            ws.send(format!("{seen:?} {name:?}")).await?;
            Ok(())
        });
        for (with_certificate, status) in [(true, "101"), (false, "401")] {
            let stream = TcpStream::connect(server.addr).await.unwrap();
            let connector = connector(&certified, with_certificate);
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            stream.write_all(REQUEST.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = soon(stream.read_to_end(&mut answer)).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            let told = answer.contains(r#"Some(Some(1)) Some(Some("localhost"))"#);
            assert_eq!(told, with_certificate, "{answer}");
        }
        // A certificate is optional, but not any certificate is accepted.
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let stranger = Certified { authority: certified.authority.clone(), ..other };
        if let Ok(mut stream) =
            connector(&stranger, true).connect("localhost".try_into().unwrap(), stream).await
        {
            let _ = stream.write_all(REQUEST.as_bytes()).await;
            assert!(soon(stream.read_u8()).await.is_err());
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let certified = certified();
        let [chain, key] = [&certified.chain, &certified.key].map(String::as_bytes);
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(matches!(TlsConfig::from_pem(b"", key), Err(TlsError::NoCertificate)));
        assert!(matches!(TlsConfig::from_pem(chain, b"no PEM"), Err(TlsError::Pem(_))));
        assert!(matches!(TlsConfig::from_pem(chain, other.as_bytes()), Err(TlsError::Rustls(_))));
        assert!(matches!(
            TlsConfig::from_files("/nowhere/cert.pem", "/nowhere/key.pem"),
            Err(TlsError::File { .. })
        ));
        let clients = TlsConfig::from_pem_with_clients(chain, key, b"");
        assert!(matches!(clients, Err(TlsError::Clients(_))), "nobody could connect");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let clients = TlsConfig::from_pem_with_clients(chain, key, no_certificate.as_bytes());
        assert!(matches!(clients, Err(TlsError::Authority(_))));
        assert!(TlsConfig::from_pem(chain, key).is_ok());
    }
}
