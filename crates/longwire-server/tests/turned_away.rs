//! Clients turned away because of too many handshakes or a shutdown: their answers, and the application's hook.

mod common;

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use longwire_server::{Server, ServerConfig, TrustedProxies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use common::{LONG, REQUEST, bind, check_echo, exchange, head, open, rest, soon, start, tcp};

/// The statuses that a hook has seen.
type Seen = Arc<Mutex<Vec<StatusCode>>>;

/// A server that answers every refusal with 418 and a body.
async fn reworded() -> (Server, Seen) {
    let seen = Seen::default();
    let server = bind().await.on_reject({
        let seen = Arc::clone(&seen);
        move |rejection, _| {
            seen.lock().unwrap().push(rejection.status());
            Some(Response::builder().status(418).body(Bytes::from_static(b"short and stout\n")).unwrap())
        }
    });
    (server, seen)
}

fn check_reworded(case: &str, answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 418 "), "{case}: {answer:?}");
    assert!(answer.ends_with("\r\n\r\nshort and stout\n"), "{case}: {answer:?}");
}

/// Waits until the server has accepted all connections so far.
async fn taken_in() {
    sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn the_application_sees_who_is_turned_away_in_a_crowd() {
    let (server, seen) = reworded().await;
    let server = start(server.configure(|config| config.max_handshakes = 1));
    let mut dripping = tcp(server.addr).await;
    dripping.write_all(b"GET / HT").await.unwrap();
    taken_in().await;
    check_echo(&mut open(server.addr).await, "hello").await;
    check_reworded("the older one", &rest(&mut dripping).await);
    assert_eq!(*seen.lock().unwrap(), [503]);
    assert_eq!(server.handle.stats().rejections.get(&418), Some(&1), "what was answered is counted");
}

#[tokio::test]
async fn the_application_sees_who_is_turned_away_at_shutdown() {
    let (server, seen) = reworded().await;
    let server = start(server.authorize(async |_| pending().await));
    let mut half = tcp(server.addr).await;
    half.write_all(&REQUEST.as_bytes()[..50]).await.unwrap();
    let mut waiting = tcp(server.addr).await;
    waiting.write_all(REQUEST.as_bytes()).await.unwrap();
    taken_in().await;
    let shutdown = tokio::spawn(server.handle.shutdown());
    for (case, stream) in [("half a request", &mut half), ("waits for the application", &mut waiting)] {
        check_reworded(case, &rest(stream).await);
    }
    soon(shutdown).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [503, 503]);
}

#[tokio::test]
async fn the_answer_to_a_head_has_no_body_whoever_words_it() {
    let head = |answer: &str, status: u16, length: usize| {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
        let field = format!("\r\ncontent-length: {length}\r\n");
        assert!(answer.to_lowercase().contains(&field), "that of the body: {answer:?}");
        assert!(answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1, "{answer:?}");
    };
    let request = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (server, _) = reworded().await;
    let server = start(server);
    head(&exchange(server.addr, request.as_bytes()).await, 418, 16);

    // The server stops while the page is pending.
    for (server, status, length) in
        [(reworded().await.0, 418, 16), (bind().await, 503, "The server accepts no more connections\n".len())]
    {
        let server = start(server.fallback(async |_| pending::<Response<Bytes>>().await));
        let mut stream = tcp(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        taken_in().await;
        let shutdown = tokio::spawn(server.handle.shutdown());
        head(&rest(&mut stream).await, status, length);
        soon(shutdown).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_at_shutdown_arrives_whole() {
    let server = start(bind().await.fallback(async |_| Response::new(vec![b'x'; LONG])));
    let mut stream = tcp(server.addr).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.contains(&format!("\r\nContent-Length: {LONG}\r\n")), "{head}");
    let shutdown = tokio::spawn(server.handle.shutdown());
    taken_in().await;
    let mut body = Vec::new();
    let end = soon(stream.read_to_end(&mut body)).await;
    assert_eq!((end.ok(), body.len()), (Some(LONG), LONG));
    drop(stream);
    soon(shutdown).await.unwrap();
    soon(server.task).await.unwrap().unwrap();
}

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n";

async fn behind_proxy() -> Server {
    bind().await.configure(|config| {
        config.proxy_protocol = TrustedProxies::networks(["127.0.0.0/8"]).unwrap();
    })
}

/// Reads everything until the end, or until a reset.
async fn everything(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn a_shutdown_waits_a_moment_for_the_header_of_a_proxy() {
    let server = start(behind_proxy().await);
    let mut silent = tcp(server.addr).await;
    let mut half = tcp(server.addr).await;
    half.write_all(&PROXY[..20]).await.unwrap();
    taken_in().await;
    let shutdown = tokio::spawn(server.handle.shutdown());
    taken_in().await;
    half.write_all(&PROXY[20..]).await.unwrap();
    let answer = rest(&mut half).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
    assert_eq!(everything(&mut silent).await, b"", "closed without a word, as at any time without a header");
    drop((half, silent));
    soon(shutdown).await.unwrap();
    soon(server.task).await.unwrap().unwrap();
}

/// Allows only one handshake, with a deadline that no test reaches.
fn crowded(config: &mut ServerConfig) {
    config.max_handshakes = 1;
    config.handshake_timeout = Duration::from_secs(3600);
}

#[tokio::test]
async fn in_a_crowd_a_proxy_that_has_not_sent_its_header_is_cut_off() {
    let server = start(behind_proxy().await.configure(crowded));
    let mut silent = tcp(server.addr).await;
    taken_in().await;
    let _newer = tcp(server.addr).await;
    assert_eq!(everything(&mut silent).await, b"");
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tls {
    use longwire_server::TlsConfig;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn tls() -> (TlsConfig, TlsConnector) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let server = TlsConfig::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (server, TlsConnector::from(Arc::new(config)))
    }

    #[tokio::test]
    async fn a_shutdown_answers_over_tls_that_is_complete_a_moment_later() {
        for proxied in [false, true] {
            let (config, connector) = tls();
            let server = if proxied { behind_proxy().await } else { bind().await };
            let server = start(server.tls(config));
            let mut late = tcp(server.addr).await;
            let mut never = tcp(server.addr).await;
            taken_in().await;
            let shutdown = tokio::spawn(server.handle.shutdown());
            taken_in().await;
            if proxied {
                late.write_all(PROXY).await.unwrap();
            }
            let connecting = connector.connect("localhost".try_into().unwrap(), late);
            let mut late = soon(connecting).await.unwrap();
            late.write_all(&REQUEST.as_bytes()[..50]).await.unwrap();
            let mut answer = Vec::new();
            soon(late.read_to_end(&mut answer)).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
            assert_eq!(everything(&mut never).await, b"", "there is nothing that it could read");
            drop((late, never));
            soon(shutdown).await.unwrap();
            soon(server.task).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn in_a_crowd_a_client_without_tls_yet_is_cut_off() {
        let (config, _) = tls();
        let server = bind().await.tls(config).configure(crowded);
        let server = start(server);
        let mut silent = tcp(server.addr).await;
        taken_in().await;
        let _newer = tcp(server.addr).await;
        assert_eq!(everything(&mut silent).await, b"");
    }
}
