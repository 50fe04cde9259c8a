//! Redirects, with hand-written servers.

mod support;

use std::time::Duration;

use longwire_client::{Client, Error, RedirectError, WebSocketUri};
use support::{SWITCHING, field, fill, read_request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves each connection with the next answer, in which `{port}` is the server's own port. The task yields the
/// requests.
async fn serve(answers: Vec<String>) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut requests, mut open) = (Vec::new(), Vec::new());
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            let answer = answer.replace("{port}", &port.to_string());
            stream.write_all(&fill(answer, &request)).await.unwrap();
            requests.push(request);
            // A redirect announces a body that is never sent.
            open.push(stream);
        }
        requests
    });
    (port, task)
}

fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 1000\r\n\r\n")
}

fn switching() -> String {
    SWITCHING.to_owned()
}

/// Returns a client with every option that is meant only for its first origin.
fn with_secrets(url: String) -> Client {
    Client::new(url)
        .header("authorization", "Bearer secret")
        .header("cookie", "session=secret")
        .header("host", "virtual.example")
        .header("x-kept", "1")
        .origin("https://page.example")
        .subprotocol("chat")
        .redirects(5)
}

#[track_caller]
fn has_secrets(request: &str) -> bool {
    let secrets = ["Authorization: ", "secret", "virtual.example", "Origin: https://page.example"];
    let found = secrets.map(|secret| request.contains(secret));
    assert_eq!(found, [found[0]; 4], "all or none: {request}");
    assert_eq!(field(request, "X-Kept"), "1");
    assert_eq!(field(request, "Sec-WebSocket-Protocol"), "chat");
    found[0]
}

#[tokio::test]
async fn takes_a_redirect_for_a_refusal_by_default() {
    for client in [|client: Client| client, |client: Client| client.redirects(0)] {
        let answer = redirect(302, "/x").replace("1000", "0");
        let (port, _server) = serve(vec![answer]).await;
        let error = client(Client::new(format!("ws://127.0.0.1:{port}/"))).connect().await.unwrap_err();
        let Error::UnexpectedResponse { response, .. } = error else { panic!("{error:?}") };
        assert_eq!(response.headers()["location"], "/x");
    }
}

#[tokio::test]
async fn follows_where_the_location_leads() {
    for (status, location, path) in [
        (301, "/x", "/x"),
        (302, "x?y", "/a/x?y"),
        (303, "../x", "/x"),
        (307, "ws://localhost:{port}/x", "/x"),
        (308, "http://localhost:{port}/x", "/x"),
        (302, "//localhost:{port}/x", "/x"),
        (302, "", "/a/b"),
    ] {
        let (port, server) = serve(vec![redirect(status, location), switching()]).await;
        let client = Client::new(format!("ws://u:p@localhost:{port}/a/b")).redirects(1);
        let (ws, response) = client.header("cookie", "a=b").connect().await.expect(location);
        ws.abort();
        let answered = response.extensions().get::<WebSocketUri>().unwrap();
        assert_eq!(answered.to_string(), format!("ws://localhost:{port}{path}"), "{location}");
        let request = &server.await.unwrap()[1];
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{location}: {request}");
        // The origin is the same.
        assert_eq!(field(request, "Authorization"), "Basic dTpw", "{location}");
        assert_eq!(field(request, "Cookie"), "a=b", "{location}");
    }
}

#[tokio::test]
async fn leaves_credentials_behind_for_good_where_the_origin_changes() {
    // Another name for the same host, then back to the first.
    let answers = vec![
        redirect(302, "/same"),
        redirect(302, "ws://mallory:own@localhost:{port}/"),
        redirect(302, "ws://127.0.0.1:{port}/"),
        switching(),
    ];
    let (port, server) = serve(answers).await;
    let (ws, response) = with_secrets(format!("ws://127.0.0.1:{port}/")).connect().await.unwrap();
    ws.abort();
    let requests = server.await.unwrap();
    let secrets: Vec<bool> = requests.iter().map(|request| has_secrets(request)).collect();
    assert_eq!(secrets, [true, true, false, false]);
    assert_eq!(field(&requests[2], "Host"), format!("localhost:{port}"));
    let answered = response.extensions().get::<WebSocketUri>().unwrap();
    assert_eq!(answered.to_string(), format!("ws://127.0.0.1:{port}/"));

    // Another port.
    let (other, elsewhere) = serve(vec![switching()]).await;
    let (port, server) = serve(vec![redirect(307, &format!("http://127.0.0.1:{other}/"))]).await;
    with_secrets(format!("ws://127.0.0.1:{port}/")).connect().await.unwrap().0.abort();
    assert!(has_secrets(&server.await.unwrap()[0]));
    assert!(!has_secrets(&elsewhere.await.unwrap()[0]));

    // The URL's credentials.
    let (other, elsewhere) = serve(vec![switching()]).await;
    let (port, _server) = serve(vec![redirect(307, &format!("http://m:own@127.0.0.1:{other}/"))]).await;
    let client = Client::new(format!("ws://u:p@127.0.0.1:{port}/")).redirects(1);
    client.connect().await.unwrap().0.abort();
    assert!(!elsewhere.await.unwrap()[0].contains("Authorization"));
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod tls {
    use longwire_client::TlsConfig;
    use support::tls::{Authority, acceptor, asking};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// As [`super::serve`], over TLS. With each request, the task yields the number of certificates that the client
    /// presented.
    async fn serve_secure(
        acceptor: TlsAcceptor,
        answers: Vec<String>,
    ) -> (u16, JoinHandle<Vec<(String, usize)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut requests, mut open) = (Vec::new(), Vec::new());
            for answer in answers {
                let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                let request = read_request(&mut stream).await;
                stream.write_all(&fill(answer, &request)).await.unwrap();
                stream.flush().await.unwrap();
                requests.push((request, shown));
                open.push(stream);
            }
            requests
        });
        (port, task)
    }

    fn trusting(authority: &Authority) -> TlsConfig {
        TlsConfig::new().root_certificates_pem(&authority.pem).unwrap()
    }

    #[tokio::test]
    async fn leaves_tls_only_if_it_is_told_to_and_without_credentials() {
        let authority = Authority::new();
        let (port, plain) = serve(vec![switching()]).await;
        let out = redirect(302, &format!("ws://localhost:{port}/"));
        let acceptor = acceptor(&authority.leaf("localhost"));
        let (secure, server) = serve_secure(acceptor, vec![out.clone(), out]).await;
        let client = with_secrets(format!("wss://localhost:{secure}/")).tls(trusting(&authority));
        let error = client.connect().await.unwrap_err();
        let Error::Redirect(RedirectError::Plain { location }) = error else { panic!("{error:?}") };
        assert_eq!(location.port(), port);
        client.dangerously_follow_to_plain().connect().await.unwrap().0.abort();
        assert!(server.await.unwrap().iter().all(|(request, _)| has_secrets(request)));
        assert!(!has_secrets(&plain.await.unwrap()[0]));
    }

    #[tokio::test]
    async fn leaves_the_certificate_behind_where_the_origin_changes() {
        let authority = Authority::new();
        let identity = authority.leaf("client");
        // Both servers share one session cache, so a resumed session would carry the certificate over.
        let acceptor = asking(&authority.leaf("localhost"), &authority);
        let (other, elsewhere) = serve_secure(acceptor.clone(), vec![switching()]).await;
        let answers = vec![redirect(302, "/x"), redirect(302, &format!("wss://localhost:{other}/"))];
        let (port, server) = serve_secure(acceptor, answers).await;
        let tls = trusting(&authority).client_certificate_pem(identity.chain, identity.key).unwrap();
        let client = Client::new(format!("wss://localhost:{port}/")).tls(tls).redirects(2);
        client.connect().await.unwrap().0.abort();
        let shown =
            |requests: Vec<(String, usize)>| requests.iter().map(|(_, shown)| *shown).collect::<Vec<_>>();
        assert_eq!(shown(server.await.unwrap()), [1, 1], "the same origin");
        assert_eq!(shown(elsewhere.await.unwrap()), [0]);
    }
}

#[tokio::test]
async fn follows_no_more_than_it_is_told_to() {
    for limit in [1, 2, 10] {
        // A redirect loop ends at the limit.
        let (port, server) = serve(vec![redirect(302, "/x"); limit + 1]).await;
        let error =
            Client::new(format!("ws://127.0.0.1:{port}/x")).redirects(limit).connect().await.unwrap_err();
        assert!(
            matches!(error, Error::Redirect(RedirectError::TooMany { limit: told }) if told == limit),
            "{error:?}"
        );
        assert_eq!(server.await.unwrap().len(), limit + 1);

        let answers = [vec![redirect(302, "/x"); limit], vec![switching()]].concat();
        let (port, _server) = serve(answers).await;
        Client::new(format!("ws://127.0.0.1:{port}/x")).redirects(limit).connect().await.unwrap().0.abort();
    }
}

#[tokio::test]
async fn goes_to_no_other_scheme() {
    for location in [
        "file:///etc/passwd",
        "ftp://localhost/",
        "javascript:alert(1)",
        "ws+unix:/tmp/socket:/",
        "ws://127.0.0.1/#x",
        "ws://",
        "/caf\u{e9}",
        "\x1b[2J:",
    ] {
        // A field cannot contain a terminal escape sequence: the head itself is refused.
        let (port, _server) = serve(vec![redirect(302, location)]).await;
        let error = Client::new(format!("ws://127.0.0.1:{port}/")).redirects(9).connect().await.unwrap_err();
        let expected = matches!(error, Error::Redirect(RedirectError::Location { .. }) | Error::Response(_));
        assert!(expected, "{location:?}: {error:?}");
        assert!(error.to_string().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
    }
    let twice = "HTTP/1.1 302 x\r\nLocation: /a\r\nLocation: /b\r\n\r\n";
    let (port, _server) = serve(vec![twice.to_owned()]).await;
    let error = Client::new(format!("ws://127.0.0.1:{port}/")).redirects(9).connect().await.unwrap_err();
    assert!(matches!(error, Error::Redirect(RedirectError::Repeated)), "{error:?}");
}

#[tokio::test]
async fn takes_other_answers_for_what_they_are() {
    for (case, answer) in [
        ("no location", "HTTP/1.1 302 x\r\nContent-Length: 0\r\n\r\n"),
        ("not modified", "HTTP/1.1 304 x\r\nLocation: /\r\n\r\n"),
        ("choices", "HTTP/1.1 300 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        ("created", "HTTP/1.1 201 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        ("unauthorized", "HTTP/1.1 401 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (port, _server) = serve(vec![redirect(302, "/there"), answer.to_owned()]).await;
        let error = Client::new(format!("ws://127.0.0.1:{port}/")).redirects(9).connect().await.unwrap_err();
        let Error::UnexpectedResponse { response, .. } = error else { panic!("{case}: {error:?}") };
        let refused = response.extensions().get::<WebSocketUri>().unwrap();
        assert_eq!(refused.to_string(), format!("ws://127.0.0.1:{port}/there"), "{case}");
    }
}

#[tokio::test]
async fn keeps_one_deadline_over_all_of_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = stream.write_all(redirect(302, "/").as_bytes()).await;
        }
    });
    let client = Client::new(format!("ws://127.0.0.1:{port}/"))
        .redirects(usize::MAX)
        .handshake_timeout(Duration::from_millis(200));
    assert!(matches!(client.connect().await, Err(Error::Timeout { .. })));
}

/// A hook receives the URL of each request, and no credentials that are not meant for that server.
#[tokio::test]
async fn a_hook_keeps_no_credentials() {
    let (other, elsewhere) = serve(vec![switching()]).await;
    let (port, server) = serve(vec![redirect(307, &format!("ws://127.0.0.1:{other}/"))]).await;
    let client = with_secrets(format!("ws://127.0.0.1:{port}/")).on_request(move |uri, headers| {
        assert_eq!(headers.contains_key("authorization"), uri.port() == port);
    });
    client.connect().await.unwrap().0.abort();
    assert!(has_secrets(&server.await.unwrap()[0]));
    assert!(!has_secrets(&elsewhere.await.unwrap()[0]));
}
