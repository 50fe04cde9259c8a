//! Connecting, as the command line says.

use std::time::Duration;

use http::Response;
use longwire::client::{self, TlsConfig};
use longwire::reconnect::{Confirm, Failure as Lost};
use longwire::{Client, Config, Keepalive, Limits};
use tokio::sync::mpsc;

use crate::args::Endpoint;
use crate::escape;
use crate::link::{Incoming, Link, Outgoing};
use crate::status::{self, Failure, NOT_CONNECTED};

mod http2;
mod tls;

/// Connects once; returns the connection and the server's response.
///
/// # Errors
///
/// [`status::NOT_CONNECTED`], or [`status::USAGE`] for options that make no request.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<(Link, Response<()>), Failure> {
    if endpoint.h2 {
        return http2::connect(endpoint).await;
    }
    let (ws, response) = client(endpoint)?.connect().await.map_err(|error| failure(&error))?;
    let (subprotocol, extensions) = (ws.subprotocol().map(str::to_owned), ws.extensions().map(str::to_owned));
    let (sender, receiver) = ws.split();
    let incoming = Incoming::Http1(receiver, sender.clone());
    Ok((Link { incoming, outgoing: Outgoing::Once(sender), subprotocol, extensions }, response))
}

/// Connects now and whenever the connection is lost. Each loss is reported as a sentence.
///
/// # Errors
///
/// [`status::USAGE`] for options that make no request.
pub(crate) fn reconnecting(
    endpoint: &Endpoint,
    reports: mpsc::UnboundedSender<String>,
) -> Result<Link, Failure> {
    let connected = reports.clone();
    let reconnecting = client(endpoint)?
        .reconnecting()
        // The session receives all the time, as this demands.
        .confirm(Confirm::Pong)
        .on_connect(move |ws| {
            // Nobody listens after the end.
            let _ = connected.send("connected".to_owned());
            async move { Ok(ws) }
        })
        .retry_if(move |lost: &Lost<'_>| {
            let retry = lost.outage.is_temporary();
            if retry {
                let _ = reports.send(format!("{}; connecting again", status::chain(lost.outage)));
            }
            retry
        })
        .start();
    let outgoing = Outgoing::Again(reconnecting.sender());
    let incoming = Incoming::Again(reconnecting);
    Ok(Link { incoming, outgoing, subprotocol: None, extensions: None })
}

/// Returns the URL, with the scheme that may be left out.
pub(crate) fn url(endpoint: &Endpoint) -> Result<String, Failure> {
    let url = endpoint.url.as_deref().ok_or_else(|| Failure::usage("there is no URL"))?;
    if cfg!(not(unix)) && endpoint.unix.is_some() {
        return Err(Failure::usage("there are no Unix sockets on this system"));
    }
    let has_scheme = url.contains("://") || url.starts_with("ws+unix:");
    Ok(if has_scheme { url.to_owned() } else { format!("ws://{url}") })
}

/// Returns the client of HTTP/1.1.
fn client(endpoint: &Endpoint) -> Result<Client, Failure> {
    let mut client = Client::new(url(endpoint)?)
        .handshake_timeout(endpoint.timeout)
        .config(config(endpoint))
        .redirects(endpoint.max_redirects.unwrap_or(if endpoint.location { DEFAULT_REDIRECTS } else { 0 }));
    for header in &endpoint.header {
        client = client.header(header.name.as_str(), header.value.as_str());
    }
    if let Some(origin) = &endpoint.origin {
        client = client.origin(origin.as_str());
    }
    for subprotocol in &endpoint.subprotocol {
        client = client.subprotocol(subprotocol.as_str());
    }
    for cookie in &endpoint.cookie {
        client = client.cookie(&cookie.name, &cookie.value);
    }
    if let Some(login) = &endpoint.auth {
        client = client.basic_auth(&login.user, login.password.as_deref().unwrap_or_default());
    }
    if let Some(token) = &endpoint.bearer {
        client = client.bearer(token);
    }
    if endpoint.no_deflate {
        client = client.deflate(None);
    }
    client = with_proxy(client, endpoint);
    with_tls(client, endpoint)
}

/// The most redirects that `--location` follows.
const DEFAULT_REDIRECTS: usize = 10;

fn with_proxy(client: Client, endpoint: &Endpoint) -> Client {
    #[cfg(unix)]
    if let Some(path) = &endpoint.unix {
        return client.unix_socket(path);
    }
    match &endpoint.proxy {
        Some(proxy) => client.proxy(proxy),
        None if endpoint.no_proxy => client,
        None => client.proxy_from_env(),
    }
}

fn with_tls(client: Client, endpoint: &Endpoint) -> Result<Client, Failure> {
    let mut tls = TlsConfig::new();
    if let Some(ca) = &endpoint.ca {
        tls = tls.root_certificates_file(ca).map_err(|error| Failure::not_connected(&error))?;
    }
    if let (Some(cert), Some(key)) = (&endpoint.cert, &endpoint.key) {
        tls = tls.client_certificate_files(cert, key).map_err(|error| Failure::not_connected(&error))?;
    }
    if endpoint.insecure {
        tls = tls.dangerously_accept_any_certificate();
    }
    Ok(client.tls(tls))
}

/// Returns the configuration of the open connection.
fn config(endpoint: &Endpoint) -> Config {
    let limits = Limits::default().with_max_message(endpoint.max_size).with_max_frame(endpoint.max_size);
    let keepalive = endpoint.keepalive.filter(|interval| *interval > Duration::ZERO);
    let keepalive =
        keepalive.map(|interval| Keepalive::default().with_interval(interval).with_timeout(interval));
    Config::default().with_limits(limits).with_keepalive(keepalive)
}

/// Returns the failure of an attempt to connect, with the server's explanation if there is one.
fn failure(error: &client::Error) -> Failure {
    match error {
        client::Error::Option(_) | client::Error::Options(_) | client::Error::Uri(_) => {
            Failure::usage(status::chain(error))
        }
        client::Error::UnexpectedResponse { response, .. } => refusal(&status::chain(error), response.body()),
        error => Failure::not_connected(error),
    }
}

/// Returns the failure for a refusal, with the start of its body.
fn refusal(error: &str, body: &[u8]) -> Failure {
    let shown = &body[..body.len().min(MOST_OF_A_BODY)];
    let text = String::from_utf8_lossy(shown);
    let text = escape::lines(text.trim_ascii());
    let more = if shown.len() < body.len() { " ..." } else { "" };
    let body =
        if text.is_empty() { String::new() } else { format!("\n  {}{more}", text.replace('\n', "\n  ")) };
    Failure::new(NOT_CONNECTED, format!("{error}{body}"))
}

/// Enough for an explanation, and not yet for a page.
const MOST_OF_A_BODY: usize = 2048;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn endpoint(words: &[&str]) -> Endpoint {
        Cli::parse_from([&["longwire"], words].concat()).connect.endpoint
    }

    #[test]
    fn a_scheme_may_be_left_out() {
        for (given, expected) in [
            ("localhost:8080/a", "ws://localhost:8080/a"),
            ("wss://a", "wss://a"),
            ("http://a", "http://a"),
            ("ws+unix:/run/socket:/a", "ws+unix:/run/socket:/a"),
        ] {
            assert_eq!(url(&endpoint(&[given])).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn options_that_make_no_request_are_wrong_usage() {
        for words in [
            &["ws://a b"][..],
            &["ftp://localhost"],
            &["ws://127.0.0.1:1", "-H", "a b: c"],
            &["ws://127.0.0.1:1", "-s", "a b"],
            &["ws://127.0.0.1:1", "--cookie", "a=;"],
        ] {
            for h2 in [&[][..], &["--h2"]] {
                let words = [words, h2].concat();
                let failure = connect(&endpoint(&words)).await.err().unwrap();
                assert_eq!(failure.status, status::USAGE, "{words:?}: {failure}");
            }
        }
        // Over HTTP/2, the library checks this one when there is a connection.
        let failure = connect(&endpoint(&["ws://127.0.0.1:1", "-H", "Upgrade: a"])).await.err().unwrap();
        assert_eq!(failure.status, status::USAGE, "{failure}");
    }

    #[test]
    fn a_refusal_is_explained_without_control_characters() {
        assert_eq!(refusal("403", b"members\x1b[2J\nonly\n").message, "403\n  members\\u{1b}[2J\n  only");
        assert_eq!(refusal("403", b" \n").message, "403");
        assert!(refusal("403", &[b'x'; 4000]).message.ends_with("xx ..."));
    }
}
