//! Hand-written proxies in front of hand-written servers.

mod support;

use std::io;
use std::time::Duration;

use longwire_client::reconnect::Outage;
use longwire_client::{Client, Error, InvalidOption, ProxyError};
use longwire_connection::Message;
use support::{SWITCHING, answer_with, field, read_request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server's text frame with `hello`.
const HELLO: &[u8] = b"\x81\x05hello";

fn greeting() -> Vec<u8> {
    [SWITCHING.as_bytes(), HELLO].concat()
}

/// Serves one connection as a proxy. Returns its port, and a task that yields the result of `handle`.
async fn proxy<F, T>(handle: impl FnOnce(TcpStream) -> F + Send + 'static) -> (u16, JoinHandle<T>)
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, tokio::spawn(async move { handle(listener.accept().await.unwrap().0).await }))
}

/// Acts as an HTTP proxy and returns the request.
async fn tunnel(mut client: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let request = read_request(&mut client).await;
    let target = request.split(' ').nth(1).unwrap();
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    client.flush().await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
    request
}

/// Answers a CONNECT request with `answer`. The task yields everything that the client sends afterwards.
async fn answer_to_connect(answer: &'static [u8]) -> (u16, JoinHandle<Vec<u8>>) {
    proxy(move |mut client| async move {
        read_request(&mut client).await;
        client.write_all(answer).await.unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        rest
    })
    .await
}

#[tokio::test]
async fn tunnels_and_keeps_the_credentials_apart() {
    let (address, server) = answer_with(greeting()).await;
    let (port, proxy) = proxy(tunnel).await;
    let client = Client::new(format!("ws://alice:end2end@{address}/chat?token=end2end"))
        .header("cookie", "session=end2end")
        .proxy(format!("http://us%40er:hop@127.0.0.1:{port}"));
    assert!(!format!("{client:?}").contains("hop"));
    let (mut ws, _) = client.connect().await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
    ws.abort();
    let connect = proxy.await.unwrap();
    assert!(connect.starts_with(&format!("CONNECT {address} HTTP/1.1\r\n")), "{connect}");
    assert_eq!(field(&connect, "Host"), address);
    // base64 of us@er:hop
    assert_eq!(field(&connect, "Proxy-Authorization"), "Basic dXNAZXI6aG9w");
    for kept in ["\r\nAuthorization", "Cookie", "end2end", "Sec-", "chat"] {
        assert!(!connect.contains(kept), "{connect}");
    }
    let (request, _) = server.await.unwrap();
    assert!(request.contains("end2end") && !request.contains("Proxy"), "{request}");
    assert!(!request.contains("dXNAZXI6aG9w"), "{request}");
}

#[tokio::test]
async fn headers_for_the_proxy_are_for_the_proxy_alone() {
    let (address, server) = answer_with(greeting()).await;
    let (port, proxy) = proxy(tunnel).await;
    let client = Client::new(format!("ws://{address}/"))
        .header("user-agent", "to-server")
        .proxy(format!("127.0.0.1:{port}"))
        .proxy_header("user-agent", "to-proxy");
    client.connect().await.unwrap().0.abort();
    assert_eq!(field(&proxy.await.unwrap(), "User-Agent"), "to-proxy");
    assert_eq!(field(&server.await.unwrap().0, "User-Agent"), "to-server");

    let (port, _proxy) = self::proxy(tunnel).await;
    let client = Client::new("ws://h/").proxy(format!("127.0.0.1:{port}")).proxy_header("host", "other");
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error:?}");
}

/// A proxy that refuses will refuse again; a failure may be temporary.
#[tokio::test]
async fn a_proxys_refusal_is_final() {
    for (answer, temporary) in [
        (&b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n"[..], false),
        (b"HTTP/1.1 403 x\r\n\r\n", false),
        (b"HTTP/1.1 408 x\r\n\r\n", true),
        (b"HTTP/1.1 429 x\r\n\r\n", true),
        (b"HTTP/1.1 502 x\r\n\r\n", true),
        (b"HTTP/1.1 302 x\r\nLocation: /\r\n\r\n", true),
        (b"", true),
    ] {
        let (port, _proxy) = answer_to_connect(answer).await;
        let client = Client::new("ws://server.invalid/").proxy(format!("127.0.0.1:{port}"));
        let outage = Outage::Connect(client.connect().await.unwrap_err());
        assert_eq!(outage.is_temporary(), temporary, "{outage}");
    }
    for (answer, temporary) in [
        (&b"\x05\xff"[..], false),
        (b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0", false),
        (b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0", true),
        (b"\x05\x00\x05\x01\x00\x01\0\0\0\0\0\0", true),
    ] {
        let (port, _proxy) = proxy(move |mut client| async move {
            client.write_all(answer).await.unwrap();
            let _ = client.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let client = Client::new("ws://server.invalid/").proxy(format!("socks5h://127.0.0.1:{port}"));
        let outage = Outage::Connect(client.connect().await.unwrap_err());
        assert_eq!(outage.is_temporary(), temporary, "{outage}");
    }
}

#[tokio::test]
async fn a_reconnecting_client_does_not_repeat_a_login_that_was_refused() {
    let (port, _proxy) = answer_to_connect(b"HTTP/1.1 407 x\r\n\r\n").await;
    let client = Client::new("ws://server.invalid/").proxy(format!("127.0.0.1:{port}"));
    let mut ws = client.reconnecting().start();
    let ended = tokio::time::timeout(Duration::from_secs(10), ws.recv()).await.expect("it gives up");
    let Err(Outage::Connect(Error::Proxy(ProxyError::Refused { response }))) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(response.status(), 407);
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[tokio::test]
async fn speaks_tls_with_the_server_and_with_the_proxy() {
    use longwire_client::TlsConfig;
    use support::fill;
    use support::tls::{Authority, acceptor};

    trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
    impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

    let (servers, proxies) = (Authority::new(), Authority::new());
    let trust = |authority: &Authority| TlsConfig::new().root_certificates_pem(&authority.pem).unwrap();
    for (server_tls, proxy_tls) in [(true, false), (false, true), (true, true)] {
        let case = format!("server {server_tls}, proxy {proxy_tls}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server_port = listener.local_addr().unwrap().port();
        let acceptor_for_server = acceptor(&servers.leaf("localhost"));
        tokio::spawn(async move {
            let stream = listener.accept().await.unwrap().0;
            let mut stream: Box<dyn Io> = if server_tls {
                Box::new(acceptor_for_server.accept(stream).await.unwrap())
            } else {
                Box::new(stream)
            };
            let request = read_request(&mut stream).await;
            stream.write_all(&fill(greeting(), &request)).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read(&mut [0]).await;
        });
        let acceptor_for_proxy = acceptor(&proxies.leaf("localhost"));
        let (port, _proxy) = proxy(move |stream| async move {
            if proxy_tls {
                tunnel(acceptor_for_proxy.accept(stream).await.unwrap()).await
            } else {
                tunnel(stream).await
            }
        })
        .await;
        let scheme = |tls| if tls { "s" } else { "" };
        let client = Client::new(format!("ws{}://localhost:{server_port}/", scheme(server_tls)))
            .proxy(format!("http{}://localhost:{port}", scheme(proxy_tls)))
            .tls(trust(&servers))
            .proxy_tls(trust(&proxies));
        let (mut ws, _) = client.connect().await.expect(&case);
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")), "{case}");
        assert!(ws.with_transport(|io| io.tcp().is_some()).unwrap(), "{case}");
        ws.abort();
    }

    // Roots that are trusted for servers are not trusted for proxies.
    let acceptor = acceptor(&servers.leaf("localhost"));
    let (port, _proxy) = proxy(move |stream| async move { acceptor.accept(stream).await.is_err() }).await;
    let client = Client::new("ws://localhost:1/").proxy(format!("https://localhost:{port}"));
    let error = client.tls(trust(&servers)).proxy_tls(trust(&proxies)).connect().await.unwrap_err();
    assert!(matches!(error, Error::Proxy(ProxyError::TlsHandshake(_))), "{error:?}");

    // The cause of a failure comes with advice.
    let mut named = rcgen::CertificateParams::new(Vec::new()).unwrap();
    named.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    let another = named.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let acceptor = support::tls::acceptor(&proxies.leaf("localhost"));
    let (port, _proxy) = proxy(move |stream| async move { acceptor.accept(stream).await.is_err() }).await;
    let client = Client::new("ws://localhost:1/").proxy(format!("https://localhost:{port}"));
    let another = TlsConfig::new().root_certificates_pem(another).unwrap();
    let text = client.proxy_tls(another).connect().await.unwrap_err().to_string();
    assert_eq!(
        text,
        "TLS handshake with the proxy failed \
         (Client::proxy_tls takes a TlsConfig that trusts the issuer of its certificate)"
    );
    let (port, _proxy) = proxy(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let client = Client::new("ws://localhost:1/").proxy(format!("https://localhost:{port}"));
    let text = client.proxy_tls(trust(&proxies)).connect().await.unwrap_err().to_string();
    assert_eq!(
        text,
        "TLS handshake with the proxy failed \
         (it does not speak TLS on this port: the scheme of a proxy without TLS is http)"
    );
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_named() {
    let client = Client::new("ws://server.invalid/").proxy("http://proxy.invalid:3128");
    let unknown = client.clone().resolver(|_, _| async { Err(io::Error::other("no such host")) });
    let error = unknown.connect().await.unwrap_err();
    assert!(
        matches!(&error, Error::Proxy(ProxyError::Resolve { host, .. }) if host == "proxy.invalid"),
        "{error:?}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client.resolver(move |_, _| async move { Ok(vec![address]) }).connect().await.unwrap_err();
    assert!(
        matches!(&error, Error::Proxy(ProxyError::Connect { host, port: 3128, .. }) if host == "proxy.invalid"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_ends_a_conversation_with_a_socks_proxy_has_its_error() {
    for (case, answer, expected) in [
        ("the rules", &b"\x05\x02\x00"[..], "proxy did not connect: not allowed by the proxy's rules"),
        ("no route", b"\x05\x03\x00", "proxy did not connect: network unreachable"),
        ("the host", b"\x05\x04\x00", "proxy did not connect: host unreachable"),
        ("hops", b"\x05\x06\x00", "proxy did not connect: time to live expired"),
        ("the command", b"\x05\x07\x00", "proxy did not connect: command not supported"),
        ("the address", b"\x05\x08\x00", "proxy did not connect: address type not supported"),
        ("another", b"\x05\x09\x00", "proxy did not connect: unknown reason"),
        ("the end", b"\x05", "proxy closed the connection before its response was complete"),
    ] {
        let (port, _proxy) = proxy(move |mut client| async move {
            client.read_exact(&mut [0; 3]).await.unwrap();
            client.write_all(b"\x05\x00").await.unwrap();
            let _ = client.read(&mut [0; 4096]).await;
            let _ = client.write_all(answer).await;
            let _ = client.write_all(&[1, 0, 0, 0, 0, 0, 0][..if answer.len() == 3 { 7 } else { 0 }]).await;
        })
        .await;
        let resolver = |_, port| async move { Ok(vec![([127, 0, 0, 1], port).into()]) };
        let client = Client::new("ws://server.invalid/").proxy(format!("socks5://127.0.0.1:{port}"));
        let error = client.resolver(resolver).connect().await.expect_err(case);
        assert!(matches!(error, Error::Proxy(_)), "{case}: {error:?}");
        assert_eq!(error.to_string(), expected, "{case}");
    }
}

#[tokio::test]
async fn tells_a_refusal_of_the_proxy_from_one_of_the_server() {
    for (case, answer, status) in [
        (
            "credentials",
            &b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 9\r\n\r\n"[..],
            407,
        ),
        ("no way", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502),
        ("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", 302),
        ("upgrade", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 101),
    ] {
        let (port, proxy) = answer_to_connect(answer).await;
        let client = Client::new("ws://u:p@server.invalid/").proxy(format!("127.0.0.1:{port}")).redirects(5);
        let error = client.connect().await.expect_err(case);
        let Error::Proxy(ProxyError::Refused { response }) = error else { panic!("{case}: {error:?}") };
        assert_eq!(response.status().as_u16(), status, "{case}");
        assert_eq!(proxy.await.unwrap(), b"", "{case}: nothing is said to the server");
    }
}

#[tokio::test]
async fn refuses_every_other_answer_of_a_proxy() {
    let endless: &'static [u8] = vec![b'a'; 1 << 20].leak();
    let fields: &'static [u8] = [b"HTTP/1.1 200 x\r\n".to_vec(), b"X: y\r\n".repeat(20_000)].concat().leak();
    for (case, answer) in [
        ("nothing", &b""[..]),
        ("cut off", b"HTTP/1.1 200 OK\r\n"),
        ("SOCKS", b"\x05\x00"),
        ("endless line", endless),
        ("endless fields", fields),
        ("interim answers", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let (port, _proxy) = proxy(move |mut client| async move {
            read_request(&mut client).await;
            let _ = client.write_all(answer).await;
        })
        .await;
        let error = Client::new("ws://server.invalid/").proxy(format!("127.0.0.1:{port}")).connect().await;
        let expected =
            matches!(error, Err(Error::Proxy(ProxyError::Head(_) | ProxyError::ClosedEarly) | Error::Io(_)));
        assert!(expected, "{case}: {error:?}");
    }
}

#[tokio::test]
async fn loses_no_byte_behind_the_proxys_answer() {
    let answer = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 418 x\r\nContent-Length: 3\r\n\r\ntea";
    let (port, _proxy) = proxy(move |mut client| async move {
        read_request(&mut client).await;
        client.write_all(answer).await.unwrap();
        read_request(&mut client).await
    })
    .await;
    let error = Client::new("ws://h/").proxy(format!("127.0.0.1:{port}")).connect().await.unwrap_err();
    let Error::UnexpectedResponse { response, .. } = error else { panic!("{error:?}") };
    assert_eq!((response.status().as_u16(), &response.body()[..]), (418, &b"tea"[..]));
}

#[tokio::test]
async fn keeps_its_deadline_while_the_proxy_drips() {
    for (scheme, answer) in
        [("http", &b"HTTP/1.1 200 OK\r\nX: "[..]), ("socks5h", b"\x05\x00\x05\x00\x00\x03\xff")]
    {
        let (port, _proxy) = proxy(move |mut client| async move {
            for byte in answer.iter().chain(&[b'a'; 200]) {
                let _ = client.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let client = Client::new("ws://h/")
            .proxy(format!("{scheme}://127.0.0.1:{port}"))
            .handshake_timeout(Duration::from_millis(100));
        assert!(matches!(client.connect().await, Err(Error::Timeout { .. })), "{scheme}");
    }
}

/// Acts as a SOCKS proxy that refuses 127.0.0.9 and connects any other target to `reach`. Returns the bytes of the
/// login and of the request.
async fn socks(mut client: TcpStream, reach: String) -> (Vec<u8>, Vec<u8>) {
    let mut exact = async |len: usize| {
        let mut bytes = vec![0; len];
        client.read_exact(&mut bytes).await.map(|_| bytes)
    };
    let methods = exact(2).await.unwrap();
    let methods = exact(usize::from(methods[1])).await.unwrap();
    let mut login = Vec::new();
    if methods.contains(&2) {
        client.write_all(b"\x05\x02").await.unwrap();
        let mut buf = [0; 512];
        let len = client.read(&mut buf).await.unwrap();
        login = buf[..len].to_vec();
        client.write_all(b"\x01\x00").await.unwrap();
    } else {
        client.write_all(b"\x05\x00").await.unwrap();
    }
    let mut buf = [0; 512];
    let len = client.read(&mut buf).await.unwrap();
    let target = buf[..len].to_vec();
    if target[3] == 1 && target[4..8] == [127, 0, 0, 9] {
        client.write_all(b"\x05\x05\x00\x01\0\0\0\0\0\0").await.unwrap();
        return (login, target);
    }
    let mut server = TcpStream::connect(reach).await.unwrap();
    client.write_all(b"\x05\x00\x00\x01\0\0\0\0\0\0").await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
    (login, target)
}

#[tokio::test]
async fn gives_a_socks_proxy_the_name_or_the_address() {
    for (scheme, host, expected) in [
        ("socks5h", "server.invalid", &b"\x05\x01\x00\x03\x0eserver.invalid"[..]),
        ("socks5h", "127.0.0.1", b"\x05\x01\x00\x01\x7f\0\0\x01"),
        ("socks5", "server.invalid", b"\x05\x01\x00\x01\x7f\0\0\x01"),
        ("socks5", "127.0.0.1", b"\x05\x01\x00\x01\x7f\0\0\x01"),
    ] {
        let (address, server) = answer_with(greeting()).await;
        let server_port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let (port, proxy) = proxy(|client| socks(client, address)).await;
        let client = Client::new(format!("ws://alice:end2end@{host}:{server_port}/"))
            .proxy(format!("{scheme}://us%40er:hop@127.0.0.1:{port}"))
            .resolver(move |name, port| async move {
                assert_eq!((name.as_str(), scheme), ("server.invalid", "socks5"), "who resolves");
                Ok(vec![([127, 0, 0, 1], port).into()])
            });
        let (mut ws, _) = client.connect().await.expect(scheme);
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
        ws.abort();
        let (login, target) = proxy.await.unwrap();
        assert_eq!(login, b"\x01\x05us@er\x03hop", "{scheme}");
        assert_eq!(target, [expected, &server_port.to_be_bytes()].concat(), "{scheme} {host}");
        let (request, _) = server.await.unwrap();
        assert!(request.contains("Authorization") && !request.contains("hop"), "{request}");
    }
}

#[tokio::test]
async fn tries_the_next_address_where_a_socks_proxy_cannot_reach_one() {
    let (address, _server) = answer_with(greeting()).await;
    let server_port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = tokio::spawn(async move {
        let mut tried = Vec::new();
        for _ in 0..2 {
            let client = listener.accept().await.unwrap().0;
            tried.push(socks(client, address.clone()).await.1[7]);
        }
        tried
    });
    let resolver =
        |_, port| async move { Ok(vec![([127, 0, 0, 9], port).into(), ([127, 0, 0, 1], port).into()]) };
    let client = Client::new(format!("ws://h:{server_port}/")).proxy(format!("socks5://127.0.0.1:{port}"));
    let (ws, _) = client.resolver(resolver).connect().await.unwrap();
    ws.abort();
    assert_eq!(proxy.await.unwrap(), [9, 1]);

    // Every address is refused; then there is no address.
    let (port, _proxy) = self::proxy(|client| socks(client, String::new())).await;
    let client = Client::new("ws://h/").proxy(format!("socks5://127.0.0.1:{port}"));
    let error = client.clone().resolver(|_, port| async move { Ok(vec![([127, 0, 0, 9], port).into()]) });
    let error = error.connect().await.unwrap_err();
    assert!(matches!(error, Error::Proxy(ProxyError::Socks { code: 5 })), "{error:?}");
    assert_eq!(error.to_string(), "proxy did not connect: connection refused");
    let none = client.resolver(|_, _| async { Ok(Vec::new()) }).connect().await;
    assert!(matches!(none, Err(Error::Resolve { .. })), "{none:?}");
}

#[tokio::test]
async fn finds_an_invalid_url_of_a_proxy_before_it_dials() {
    for url in ["ftp://proxy", "http://u:a%0d%0aX:y@proxy", "http://proxy/path", "http://a\r\nb", ""] {
        let error = Client::new("ws://127.0.0.1:1/").proxy(url).connect().await.unwrap_err();
        assert!(matches!(error, Error::Option(InvalidOption::Proxy(_))), "{url:?}: {error:?}");
    }
    let error = Client::new("ws://h/").proxy("http://127.0.0.1:1").connect().await.unwrap_err();
    let Error::Proxy(ProxyError::Connect { host, port, source }) = error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), port, source.kind()), ("127.0.0.1", 1, io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn goes_through_the_proxy_on_every_redirect() {
    let (second, _server) = answer_with(SWITCHING).await;
    let first = format!("HTTP/1.1 302 x\r\nLocation: ws://{second}/\r\nContent-Length: 0\r\n\r\n");
    let (first, _server) = answer_with(first).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = tokio::spawn(async move {
        let mut requests = Vec::new();
        for _ in 0..2 {
            requests.push(tunnel(listener.accept().await.unwrap().0).await);
        }
        requests
    });
    let client = Client::new(format!("ws://{first}/")).proxy(format!("u:p@127.0.0.1:{port}")).redirects(1);
    client.connect().await.unwrap().0.abort();
    let requests = proxy.await.unwrap();
    for (request, address) in requests.iter().zip([first, second]) {
        assert!(request.starts_with(&format!("CONNECT {address} ")), "{request}");
        assert_eq!(field(request, "Proxy-Authorization"), "Basic dTpw");
    }
}
