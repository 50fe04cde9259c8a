//! The table of errors: each mistake is made over loopback, and its text is compared, without and with its causes.

#![cfg(all(feature = "client", feature = "server", feature = "rustls"))]

use std::fmt::{Debug, Display};
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use longwire::client::TlsConfig;
use longwire::{Client, Error, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Compares both forms of an error. A `*` at the end of the causes stands for the words of the system or another
/// library.
#[track_caller]
fn check<E: Display + Debug>(case: &str, error: &E, text: &str, causes: &str) {
    assert_eq!(error.to_string(), text, "{case}");
    let shown = format!("{error:?}");
    match causes.strip_suffix('*') {
        Some(known) => {
            let rest = shown.strip_prefix(&format!("{text}{known}"));
            assert!(rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(text)), "{case}: {shown}");
        }
        None => assert_eq!(shown, format!("{text}{causes}"), "{case}"),
    }
    assert_eq!(format!("{error:#?}"), shown, "{case}: one form");
}

/// Connects, which must fail, and returns the error of any part of the library.
async fn refused(client: &Client) -> Error {
    client.connect().await.map(drop).unwrap_err().into()
}

/// Returns an address at which nothing listens.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Serves each connection with `handle`.
async fn serve<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    addr
}

/// Starts a server that echoes, over TLS if there is a configuration.
async fn echo(tls: Option<longwire::server::TlsConfig>) -> SocketAddr {
    let mut config = ServerConfig::default();
    config.connection.limits.max_message = Some(16);
    let mut server = Server::bind("127.0.0.1:0").await.unwrap().config(config);
    if let Some(tls) = tls {
        server = server.tls(tls);
    }
    let addr = server.local_addr();
    tokio::spawn(
        server
            .serve(|mut ws, _| async move {
                while let Some(message) = ws.recv().await? {
                    ws.send(message).await?;
                }
                Ok(())
            })
            .into_future(),
    );
    addr
}

/// Returns the configuration of a server whose certificate nobody trusts.
fn self_signed() -> longwire::server::TlsConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    longwire::server::TlsConfig::from_pem(
        made.cert.pem().as_bytes(),
        made.signing_key.serialize_pem().as_bytes(),
    )
    .unwrap()
}

/// Returns a client that trusts one authority, which has issued nothing.
fn strict(url: String) -> Client {
    let mut params = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let root = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    Client::new(url).tls(TlsConfig::new().root_certificates_pem(root.pem()).unwrap())
}

#[tokio::test]
async fn mistakes_in_a_url_are_named() {
    for (case, url, text) in [
        ("no scheme", "example.com", "URL has no scheme, did you mean ws://example.com?"),
        ("no scheme, with a path", "localhost:80/a", "URL has no scheme, did you mean ws://localhost/a?"),
        ("no scheme, port of TLS", "example.com:443", "URL has no scheme, did you mean wss://example.com?"),
        ("another scheme", "ftp://example.com", "URL scheme \"ftp\" is not one of ws, wss, http, https"),
        ("no host", "ws://", "malformed URL: empty string"),
        ("port", "ws://h:x/", "port in the URL is not a number from 1 to 65535"),
    ] {
        check(case, &refused(&Client::new(url)).await, text, "");
    }
    for (case, proxy, text) in [
        (
            "scheme of a proxy",
            "socks4://proxy",
            "invalid proxy URL: scheme \"socks4\" is not one of http, https, socks, socks5, socks5h",
        ),
        ("port of a proxy", "proxy:x", "invalid proxy URL: port in the URL is not a number from 1 to 65535"),
    ] {
        check(case, &refused(&Client::new("ws://example.com").proxy(proxy)).await, text, "");
    }
}

#[tokio::test]
async fn the_end_that_cannot_be_reached_is_named() {
    let addr = closed_port().await;
    let port = addr.port();
    check(
        "server",
        &refused(&Client::new(format!("ws://{addr}"))).await,
        &format!("cannot connect to 127.0.0.1 port {port}"),
        ": *",
    );
    let resolve = |_, _| async { Err(std::io::Error::other("the resolver is gone")) };
    check(
        "name",
        &refused(&Client::new("ws://example.com").resolver(resolve)).await,
        "cannot resolve example.com",
        ": the resolver is gone",
    );
    for scheme in ["http", "socks5h"] {
        let client = Client::new("ws://example.com").proxy(format!("{scheme}://{addr}"));
        check(
            scheme,
            &refused(&client).await,
            &format!("cannot connect to proxy 127.0.0.1 port {port}"),
            ": *",
        );
    }
    let proxy = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 407 x\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    check(
        "proxy that asks for a login",
        &refused(&Client::new("ws://example.com").proxy(format!("http://{proxy}"))).await,
        "proxy answered with status 407 Proxy Authentication Required",
        "",
    );
    #[cfg(unix)]
    check(
        "Unix socket",
        &refused(&Client::new("ws+unix:/no/such/socket:/")).await,
        "cannot connect to /no/such/socket",
        ": *",
    );
}

#[tokio::test]
async fn what_answers_instead_is_quoted() {
    let banner = serve(|mut stream| async move {
        let _ = stream.write_all(b"220 mail\r\n\x1b[2J").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    check(
        "mail server",
        &refused(&Client::new(format!("ws://{banner}"))).await,
        "server did not answer with HTTP, but with \"220 mail\\r\\n\\x1b[2J\"",
        "",
    );
    let refusal = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    check(
        "no WebSocket there",
        &refused(&Client::new(format!("ws://{refusal}"))).await,
        "server answered with status 404 Not Found instead of 101",
        "",
    );
    let silence = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let error = refused(&Client::new(format!("ws://{silence}"))).await;
    assert!(
        ["connection closed before the handshake was complete", "connection failed during the handshake"]
            .contains(&&*error.to_string()),
        "{error:?}"
    );
}

#[tokio::test]
async fn tls_where_there_is_none_and_the_reverse_are_explained() {
    let (plain, secure) = (echo(None).await, echo(Some(self_signed())).await);
    check(
        "ws to a port with TLS",
        &refused(&Client::new(format!("ws://{secure}"))).await,
        "server answered with TLS instead of HTTP: a wss URL is needed",
        "",
    );
    check(
        "wss to a port without",
        &refused(&strict(format!("wss://localhost:{}", plain.port()))).await,
        "TLS handshake failed (the peer does not speak TLS on this port: the scheme without TLS is ws)",
        ": *",
    );
    check(
        "unknown issuer",
        &refused(&strict(format!("wss://localhost:{}", secure.port()))).await,
        "TLS handshake failed (TlsConfig::root_certificates_file makes a client trust the issuer of the certificate)",
        ": invalid peer certificate: *",
    );
    let missing: Error =
        TlsConfig::new().root_certificates_file("/no/such.pem").map(drop).unwrap_err().into();
    check("missing file", &missing, "cannot read /no/such.pem", ": *");
}

#[tokio::test]
async fn a_timeout_names_the_host_and_the_stage() {
    let limit = Duration::from_millis(50);
    let silent = serve(|stream| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let port = silent.port();
    let stalled = |_, _| async { pending().await };
    let within = |client: Client| client.handshake_timeout(limit);
    for (stage, client) in [
        ("waiting for the response of", Client::new(format!("ws://{silent}"))),
        ("negotiating TLS with", strict(format!("wss://{silent}"))),
        ("resolving the name of", Client::new(format!("ws://127.0.0.1.example:{port}")).resolver(stalled)),
        (
            "connecting through a proxy to",
            Client::new(format!("ws://127.0.0.1:{port}")).proxy(format!("http://{silent}")),
        ),
    ] {
        let host = if stage.starts_with("resolving") { "127.0.0.1.example" } else { "127.0.0.1" };
        let text = format!("timed out after 50ms while {stage} {host} port {port}");
        check(stage, &refused(&within(client)).await, &text, "");
    }
}

#[tokio::test]
async fn a_close_code_has_its_name() {
    let addr = echo(None).await;
    let mut ws = longwire::connect(format!("ws://{addr}")).await.unwrap();
    ws.send("more than sixteen bytes").await.unwrap();
    let error = ws.recv().await.unwrap_err();
    check("connection", &error, "the peer closed the connection: 1009 message too big", "");
    let error = Error::from(error);
    assert!(error.is_disconnect());
    assert_eq!(error.close_code(), Some(longwire::CloseCode::MESSAGE_TOO_BIG));
    check(
        "any part",
        &error,
        "the WebSocket connection failed",
        ": the peer closed the connection: 1009 message too big",
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    // 192.0.2.0/24 belongs to documentation (RFC 5737).
    for (case, address) in [("port in use", addr), ("another machine's", "192.0.2.1:80".parse().unwrap())] {
        let text = format!("cannot listen on {address}");
        check(case, &Error::from(Server::bind(address).await.unwrap_err()), &text, ": *");
        let options = longwire::server::ListenOptions::default();
        check(case, &Error::from(Server::bind_with(address, options).unwrap_err()), &text, ": *");
        let workers = longwire::server::Workers::bind(address, 1).unwrap_err();
        check(case, &Error::from(workers), &text, ": *");
    }
    check("no port", &Server::bind("127.0.0.1").await.unwrap_err(), "cannot listen on \"127.0.0.1\"", ": *");
    #[cfg(unix)]
    check(
        "path",
        &Server::bind_unix("/no/such/socket").unwrap_err(),
        "cannot listen on /no/such/socket",
        ": *",
    );
}

/// A program that connects, exchanges messages and serves needs one error type.
#[tokio::test]
async fn one_type_takes_every_error() {
    async fn all(url: &str) -> Result<(), Error> {
        let server = Server::bind("127.0.0.1:0").await?.tls(longwire::server::TlsConfig::from_pem(b"", b"")?);
        server.serve(|_, _| async { Ok(()) }).await?;
        let (mut ws, _) = Client::new(url).tls(TlsConfig::new().root_certificates_pem("")?).connect().await?;
        ws.send("something").await?;
        let mut lasting = Client::new(url).reconnecting().start();
        while let Some(message) = lasting.recv().await? {
            lasting.send(message).await?;
        }
        Ok(())
    }
    assert!(matches!(all("ws://h").await, Err(Error::Server(longwire::server::Error::Tls(_)))));
    let gone = Error::from(longwire::hub::HubError::NotConnected);
    assert!(!gone.is_disconnect() && gone.close_code().is_none());
    check("hub", &gone, "the client is no longer connected", "");
    let given_up = Client::new("ftp://h").reconnecting().start().recv().await.unwrap_err();
    let given_up = Error::from(given_up);
    assert!(!given_up.is_disconnect(), "there was no connection");
    check("reconnecting", &given_up, "URL scheme \"ftp\" is not one of ws, wss, http, https", "");
    let closed = longwire::CloseFrame::new(1001.into(), "");
    let closed = Error::from(longwire::reconnect::Outage::Closed(closed));
    assert!(closed.is_disconnect());
    assert_eq!(closed.close_code(), Some(longwire::CloseCode::GOING_AWAY));
}
