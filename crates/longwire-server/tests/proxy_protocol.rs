//! The PROXY protocol: the client addresses that the server derives, and the connections that it closes.

mod common;

use std::time::Duration;

use longwire_server::{HandlerResult, Request, Server, Socket, TrustedProxies};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use common::{
    REQUEST, Running, bind, exchange, expect, head, open, request_with, soon, start_with, tcp, text,
};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n";

async fn tell(mut ws: Socket, request: Request) -> HandlerResult {
    let known = ws.client().peer_addr();
    let (peer, local) = (request.peer_addr(), request.local_addr());
    assert_eq!(request.client_ip().map(|ip| ip.is_loopback()), peer.map(|peer| peer.ip().is_loopback()));
    while ws.recv().await?.is_some() {
        let [known, peer, local] =
            [known, peer, local].map(|addr| addr.map_or("?".into(), |addr| addr.to_string()));
        ws.send(format!("{peer} to {local}, known as {known}")).await?;
    }
    Ok(())
}

async fn behind(proxies: TrustedProxies) -> Server {
    bind().await.configure(|config| {
        config.proxy_protocol = proxies;
        config.handshake_timeout = Duration::from_millis(500);
    })
}

async fn start(proxies: TrustedProxies) -> Running {
    start_with(behind(proxies).await, tell)
}

fn loopback() -> TrustedProxies {
    TrustedProxies::networks(["127.0.0.1"]).unwrap()
}

#[tokio::test]
async fn the_client_is_whom_the_proxy_names() {
    let told = "192.0.2.1:4711 to 198.51.100.2:443, known as 192.0.2.1:4711";
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\x12\x67\x01\xbb";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let server = start(loopback()).await;
    for (case, header, expected) in [
        ("version 1", LINE, told),
        ("version 2", binary, told),
        ("the proxy for itself", local, "127.0.0.1"),
        ("nobody known", b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        // Header, request and first frame in one segment, and then byte by byte.
        let wire = [header, REQUEST.as_bytes(), &text("?")].concat();
        for most in [wire.len(), 1] {
            let mut stream = tcp(server.addr).await;
            for bytes in wire.chunks(most) {
                stream.write_all(bytes).await.unwrap();
            }
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "), "{case}");
            expect(&mut stream, b"\x81").await;
            let mut answer = vec![0; usize::from(stream.read_u8().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(expected), "{case}: {answer}");
        }
    }
}

#[tokio::test]
async fn clients_count_for_the_addresses_that_are_told() {
    let server = behind(loopback()).await.configure(|config| config.hub.max_clients_per_address = Some(1));
    let server = start_with(server, tell);
    let mut clients = Vec::new();
    for (client, status) in [("192.0.2.1", "101"), ("192.0.2.2", "101"), ("192.0.2.1", "503")] {
        let mut stream = tcp(server.addr).await;
        let header = format!("PROXY TCP4 {client} 198.51.100.2 1 2\r\n");
        stream.write_all(&[header.as_bytes(), REQUEST.as_bytes()].concat()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{client}: {head}");
        clients.push(stream);
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_say_is_sent_away_without_a_word() {
    let server = start(loopback()).await;
    for (case, wire) in [
        ("no header", REQUEST.as_bytes().to_vec()),
        ("a malformed one", b"PROXY TCP4 192.0.2.1\r\n".to_vec()),
        ("a line without an end", [&b"PROXY TCP4 "[..], &[b'1'; 1000]].concat()),
        ("a length beyond all bounds", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec()),
        ("silence", Vec::new()),
        ("half of one", LINE[..20].to_vec()),
    ] {
        let begun = Instant::now();
        let mut stream = tcp(server.addr).await;
        stream.write_all(&wire).await.unwrap();
        let mut answer = Vec::new();
        // The end, or a reset if some bytes were not read.
        let _ = soon(stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"", "{case}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{case}: {:?}", begun.elapsed());
    }
    let mut dripping = tcp(server.addr).await;
    let begun = Instant::now();
    for byte in LINE {
        if dripping.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "the deadline is one for all: {:?}", begun.elapsed());
    assert!(server.handle.hub().is_empty());
}

#[tokio::test]
async fn of_others_no_word_is_believed() {
    for proxies in [TrustedProxies::default(), TrustedProxies::networks(["192.0.2.0/24"]).unwrap()] {
        let server = start(proxies).await;
        let wire = [LINE, REQUEST.as_bytes()].concat();
        let answer = exchange(server.addr, &wire).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let mut client = open(server.addr).await;
        client.send("?").await.unwrap();
        let answer = soon(client.recv()).await.unwrap().unwrap().to_string();
        assert!(answer.starts_with("127.0.0.1:"), "{answer}");
    }
}

#[tokio::test]
async fn what_the_named_client_says_of_itself_is_not_believed() {
    let server = behind(loopback()).await.configure(|config| config.trusted_proxies = loopback());
    let server = start_with(server, |ws, request| async move {
        assert_eq!(request.client_ip(), Some("192.0.2.1".parse().unwrap()));
        tell_name(ws).await
    });
    let mut stream = tcp(server.addr).await;
    let request = request_with("X-Forwarded-For: 203.0.113.9");
    stream.write_all(&[LINE, request.as_bytes(), &text("?")].concat()).await.unwrap();
    head(&mut stream).await;
    expect(&mut stream, b"\x81\x0e192.0.2.1:4711").await;
}

async fn tell_name(mut ws: Socket) -> HandlerResult {
    let name = ws.client().peer_addr().map_or("?".into(), |addr| addr.to_string());
    while ws.recv().await?.is_some() {
        ws.send(name.as_str()).await?;
    }
    Ok(())
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[tokio::test]
async fn tls_comes_behind_the_header() {
    use std::sync::Arc;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let tls = longwire_server::TlsConfig::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let server = start_with(behind(loopback()).await.tls(tls), tell);
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut stream = tcp(server.addr).await;
    stream.write_all(LINE).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream);
    let mut stream = soon(connecting).await.unwrap();
    stream.write_all(&[REQUEST.as_bytes(), &text("?")].concat()).await.unwrap();
    let mut answer = vec![0; 13];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 101 ");
    while !answer.ends_with(b"192.0.2.1:4711 to 198.51.100.2:443") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
}
