//! Connecting over HTTP/2 (RFC 8441).
//!
//! The library opens sockets on a stream; this module makes the stream, as every user of that client does.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use longwire::Transport;
use longwire::handshake::{Subprotocol, WebSocketUri};
use longwire::http2::{ConnectOptions, Error, Http2};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{config, refusal, tls, url};
use crate::args::Endpoint;
use crate::link::{Incoming, Link, Outgoing};
use crate::status::{Failure, NOT_CONNECTED, chain};

/// Connects, within the time limit.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<(Link, Response<()>), Failure> {
    let url = url(endpoint)?;
    let uri = WebSocketUri::parse(&url).map_err(|error| Failure::usage(format!("invalid URL: {error}")))?;
    let options = options(endpoint)?;
    let connecting = async {
        let server = dial(endpoint, &uri).await?;
        let (ws, response) = server.connect(&url, &options).await.map_err(|error| failure(&error))?;
        let (subprotocol, extensions) =
            (ws.subprotocol().map(str::to_owned), ws.extensions().map(str::to_owned));
        let (sender, receiver) = ws.split();
        let incoming = Incoming::Http2(receiver, sender.clone());
        Ok((Link { incoming, outgoing: Outgoing::Once(sender), subprotocol, extensions }, response))
    };
    let late = format!("handshake did not complete within {:?}", endpoint.timeout);
    timeout(endpoint.timeout, connecting).await.unwrap_or_else(|_| Err(Failure::new(NOT_CONNECTED, late)))
}

/// Connects to the server, with TLS if the URL demands it.
async fn dial(endpoint: &Endpoint, uri: &WebSocketUri) -> Result<Http2, Failure> {
    #[cfg(unix)]
    if let Some(path) = &endpoint.unix {
        let stream = tokio::net::UnixStream::connect(path).await;
        let context = format!("cannot connect to {}", path.display());
        return secure(endpoint, uri, stream.map_err(|error| unreachable(&context, &error))?).await;
    }
    let context = || format!("cannot connect to {} port {}", uri.host(), uri.port());
    let host = match uri.zone() {
        Some(zone) => format!("{}%{zone}", uri.host()),
        None => uri.host().to_owned(),
    };
    let stream = TcpStream::connect((host, uri.port())).await;
    let stream = stream.map_err(|error| unreachable(&context(), &error))?;
    // It is about latency only.
    let _ = stream.set_nodelay(true);
    secure(endpoint, uri, stream).await
}

fn unreachable(context: &str, error: &std::io::Error) -> Failure {
    Failure::new(NOT_CONNECTED, format!("{context}: {}", chain(error)))
}

async fn secure(endpoint: &Endpoint, uri: &WebSocketUri, stream: impl Transport) -> Result<Http2, Failure> {
    if !uri.is_secure() {
        return start(endpoint, stream).await;
    }
    let connector = TlsConnector::from(Arc::new(tls::config(endpoint)?));
    let name = ServerName::try_from(uri.host().to_owned()).map_err(|error| Failure::not_connected(&error))?;
    let stream = connector.connect(name, stream).await;
    let stream = stream.map_err(|error| unreachable("TLS handshake failed", &error))?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Failure::new(NOT_CONNECTED, "server does not speak HTTP/2 (ALPN)"));
    }
    start(endpoint, stream).await
}

async fn start(endpoint: &Endpoint, stream: impl Transport) -> Result<Http2, Failure> {
    // It is large, and so would be every future around it.
    Box::pin(Http2::handshake(stream, endpoint.timeout)).await.map_err(|error| failure(&error))
}

/// Returns the options of the request.
fn options(endpoint: &Endpoint) -> Result<ConnectOptions, Failure> {
    let mut options = ConnectOptions::default().with_connection(config(endpoint));
    options.handshake_timeout = endpoint.timeout;
    options.handshake.headers = headers(endpoint)?;
    if let Some(origin) = &endpoint.origin {
        options.handshake.origin = Some(value("Origin", origin)?);
    }
    let subprotocols = endpoint.subprotocol.iter().map(|name| Subprotocol::try_from(name.as_str()));
    options.handshake.subprotocols =
        subprotocols.collect::<Result<_, _>>().map_err(|error| Failure::usage(chain(&error)))?;
    if endpoint.no_deflate {
        options.handshake.deflate = None;
    }
    Ok(options)
}

fn headers(endpoint: &Endpoint) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for header in &endpoint.header {
        let name = HeaderName::try_from(&header.name);
        let name = name.map_err(|error| Failure::usage(format!("{:?}: {error}", header.name)))?;
        headers.append(name, value(&header.name, &header.value)?);
    }
    for cookie in &endpoint.cookie {
        headers.append(COOKIE, value("Cookie", &cookie_pair(&cookie.name, &cookie.value)?)?);
    }
    let authorization = match (&endpoint.auth, &endpoint.bearer) {
        (Some(login), _) => {
            let password = login.password.as_deref().unwrap_or_default();
            Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{password}", login.user))))
        }
        (None, Some(token)) => Some(format!("Bearer {token}")),
        (None, None) => None,
    };
    if let Some(authorization) = authorization {
        let mut value = value("Authorization", &authorization)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

fn value(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(value).map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// Returns a cookie that stays one: neither part has a sign that separates cookies.
fn cookie_pair(name: &str, value: &str) -> Result<String, Failure> {
    let separates = |c: char| matches!(c, ';' | ',' | ' ' | '"' | '\\') || c.is_control();
    if name.is_empty() || name.contains(separates) || name.contains('=') || value.contains(separates) {
        return Err(Failure::usage(format!("{name:?} and {value:?} are not the name and value of a cookie")));
    }
    Ok(format!("{name}={value}"))
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Uri(_) | Error::Options(_) => Failure::usage(chain(error)),
        Error::UnexpectedResponse { response, .. } => refusal(&chain(error), response.body()),
        error => Failure::not_connected(error),
    }
}
