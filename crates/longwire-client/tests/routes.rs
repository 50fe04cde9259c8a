//! Routes to a server: Unix sockets, custom resolvers, local addresses and zones.

mod support;

use std::io;
use std::net::IpAddr;

use longwire_client::{Client, Error, InvalidOption};
use longwire_connection::Message;
use support::{SWITCHING, answer_with, field, fill, read_request, serve};
use tokio::io::AsyncWriteExt;

/// A server's text frame with `hello`.
const HELLO: &[u8] = b"\x81\x05hello";

#[cfg(unix)]
mod unix {
    use std::path::PathBuf;

    use longwire_client::{ClientStream, WebSocketUri};
    use tokio::net::UnixListener;

    use super::*;

    /// A socket path that no other test uses, removed at the end.
    struct Socket(PathBuf);

    impl Socket {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("longwire-{}-{name}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn connects_to_a_unix_socket() {
        let socket = Socket::new("plain");
        let path = socket.0.to_str().unwrap();
        for (case, client, host, target) in [
            ("URL", Client::new(format!("ws+unix:{path}:/chat?a=b")), "localhost", "/chat?a=b"),
            ("URL alone", Client::new(format!("ws+unix:{path}")), "localhost", "/"),
            ("URL, slashes", Client::new(format!("ws+unix://{path}:/chat")), "localhost", "/chat"),
            ("option", Client::new("ws://h.invalid:8080/x").unix_socket(path), "h.invalid:8080", "/x"),
            (
                "not by the proxy",
                Client::new("ws://h.invalid/x").proxy("http://127.0.0.1:1").unix_socket(path),
                "h.invalid",
                "/x",
            ),
        ] {
            let _ = std::fs::remove_file(&socket.0);
            let listener = UnixListener::bind(&socket.0).unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                stream.write_all(&[&fill(SWITCHING, &request)[..], HELLO].concat()).await.unwrap();
                (request, stream)
            });
            let (mut ws, _) = client.connect().await.expect(case);
            assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")), "{case}");
            assert_eq!(ws.with_transport(|io| matches!(io, ClientStream::Unix(_))), Some(true), "{case}");
            ws.abort();
            let (request, _) = server.await.unwrap();
            assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{case}: {request}");
            assert_eq!(field(&request, "Host"), host, "{case}");
        }
    }

    #[tokio::test]
    async fn stays_at_the_socket_when_it_is_redirected() {
        let socket = Socket::new("redirect");
        let listener = UnixListener::bind(&socket.0).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 302 x\r\nLocation: ws://h.invalid/x\r\n\r\n").await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
            request
        });
        let client = Client::new(format!("ws+unix:{}:/", socket.0.to_str().unwrap())).header("cookie", "a=b");
        let (ws, response) = client.redirects(1).connect().await.unwrap();
        ws.abort();
        let answered = response.extensions().get::<WebSocketUri>().unwrap().to_string();
        assert_eq!(answered, "ws://h.invalid/x");
        assert!(!server.await.unwrap().contains("Cookie"));
    }

    #[tokio::test]
    async fn names_a_socket_that_takes_no_connection() {
        let error = Client::new("ws+unix:/nonexistent/socket:/").connect().await.unwrap_err();
        let Error::ConnectUnix { path, source } = error else { panic!("{error:?}") };
        assert_eq!((path.to_str().unwrap(), source.kind()), ("/nonexistent/socket", io::ErrorKind::NotFound));
        for url in ["ws+unix:", "ws+unix::/chat", "ws+unix:/socket:@h/"] {
            let error = Client::new(url).connect().await.unwrap_err();
            assert!(matches!(error, Error::Option(InvalidOption::UnixSocket)), "{url}: {error:?}");
        }
    }
}

#[tokio::test]
async fn asks_the_callers_resolver_for_names_alone() {
    for (host, asked) in [("some.invalid", true), ("127.0.0.1", false)] {
        let (address, server) = answer_with(SWITCHING).await;
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let client = Client::new(format!("ws://{host}:{port}/")).resolver(move |host, told| async move {
            assert!(asked && host == "some.invalid" && told == port, "{host}");
            // The first address refuses.
            Ok(vec![([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], told).into()])
        });
        client.connect().await.expect(host).0.abort();
        assert_eq!(field(&server.await.unwrap().0, "Host"), format!("{host}:{port}"));
    }
    let fails = |_, _| async { Err(io::Error::other("no such name")) };
    let error = Client::new("ws://some.invalid/").resolver(fails).connect().await.unwrap_err();
    let Error::Resolve { host, source } = error else { panic!("{error:?}") };
    assert_eq!((host.as_str(), source.to_string().as_str()), ("some.invalid", "no such name"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connects_from_the_local_address_that_it_is_given() {
    // On Linux, all of 127.0.0.0/8 belongs to this machine.
    let local: IpAddr = [127, 0, 0, 7].into();
    let (address, server) = serve(|request, mut stream| async move {
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        stream.peer_addr().unwrap().ip()
    })
    .await;
    Client::new(format!("ws://{address}")).local_addr(local).connect().await.unwrap().0.abort();
    assert_eq!(server.await.unwrap(), local);

    let error =
        Client::new(format!("ws://{address}")).local_addr([192, 0, 2, 1]).connect().await.unwrap_err();
    let Error::Connect { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::AddrNotAvailable);
    let ipv6: IpAddr = "::1".parse().unwrap();
    let error = Client::new(format!("ws://{address}")).local_addr(ipv6).connect().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "no address of that family: {error:?}");
}

/// A zone selects the interface; the server never sees it (RFC 6874 §4).
#[cfg(target_os = "linux")]
#[tokio::test]
async fn dials_an_address_in_a_zone() {
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.expect("there is IPv6");
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        request
    });
    let client = Client::new(format!("ws://[::1%251]:{port}/"));
    client.connect().await.unwrap().0.abort();
    assert_eq!(field(&server.await.unwrap(), "Host"), format!("[::1]:{port}"));

    let error = Client::new("ws://[fe80::1%25no-such]/").connect().await.unwrap_err();
    assert!(matches!(&error, Error::Resolve { host, .. } if host == "fe80::1%no-such"), "{error:?}");
}
