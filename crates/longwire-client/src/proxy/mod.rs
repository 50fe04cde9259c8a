//! Proxies: choosing one for a connection, and connecting through it.
//!
//! A proxy's answer is bounded in size, and the attempt's deadline covers it. Nothing after the answer is read, so no
//! byte from the server is lost.

mod environment;
mod socks;
mod uri;

use std::sync::Arc;

use http::{Response, StatusCode};
use longwire_handshake::{HeadError, HeadLimits, ResponseParser, WebSocketUri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) use environment::Environment;
pub(crate) use uri::{ProxyScheme, ProxyUri};

use crate::connector::Connector;
use crate::dial;
use crate::{ClientStream, Error, InvalidOption};

/// The source of a client's proxy.
#[derive(Clone, Default)]
pub(crate) enum Proxies {
    /// No proxy.
    #[default]
    None,
    /// One proxy for all servers.
    One(Arc<ProxyUri>),
    /// The proxies that the environment names.
    Environment(Arc<Environment>),
}

impl Proxies {
    /// Returns the proxy for a server, if there is one.
    pub(crate) fn find(&self, uri: &WebSocketUri) -> Result<Option<&ProxyUri>, InvalidOption> {
        match self {
            Self::None => Ok(None),
            Self::One(proxy) => Ok(Some(proxy)),
            Self::Environment(environment) => environment.find(uri),
        }
    }
}

/// The reason why a proxy did not connect to the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// An HTTP proxy refused or asked for credentials: its status is not 2xx.
    #[error("proxy answered with status {}", .response.status())]
    Refused {
        /// The head of the answer; its body is not read.
        response: Box<Response<()>>,
    },
    /// An HTTP proxy's answer is not HTTP/1.1, or its head exceeds 16 KiB or 100 fields.
    #[error("malformed answer of the proxy: {0}")]
    Head(#[from] HeadError),
    /// A SOCKS proxy's answer is not SOCKS version 5.
    #[error("proxy does not speak SOCKS version 5")]
    NotSocks,
    /// A SOCKS proxy requires a login and none is set, or it accepts no kind of login that was offered.
    #[error("proxy requires another kind of login")]
    LoginRequired,
    /// A SOCKS proxy refused the user and password.
    #[error("proxy refused user and password")]
    LoginRefused,
    /// A SOCKS proxy could not or would not connect (RFC 1928 §6).
    #[error("proxy did not connect: {}", socks::meaning(*.code))]
    Socks {
        /// The proxy's reply code, at least 1.
        code: u8,
    },
    /// The server's name is longer than the 255 bytes that SOCKS can carry.
    #[error("host is too long for a SOCKS proxy")]
    HostTooLong,
    /// The proxy closed the connection before its answer was complete.
    #[error("proxy closed the connection before its answer was complete")]
    ClosedEarly,
    /// TLS with the proxy failed.
    #[cfg(feature = "tls")]
    #[error("TLS with the proxy failed")]
    Tls(#[source] crate::TlsError),
}

impl ProxyError {
    /// Returns whether another attempt can succeed: not if the proxy would refuse the same request again.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { response } => !is_final(response.status()),
            Self::LoginRequired | Self::LoginRefused | Self::HostTooLong => false,
            // "connection not allowed by ruleset", "Command not supported", "Address type not supported" (RFC 1928 §6)
            Self::Socks { code } => !matches!(code, 2 | 7 | 8),
            _ => true,
        }
    }
}

/// Returns whether a request answered with this status would get the same answer again.
pub(crate) fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429)
}

/// Connects to the server of `uri` through a proxy.
pub(crate) async fn connect(
    connector: &Connector,
    proxy: &ProxyUri,
    uri: &WebSocketUri,
) -> Result<ClientStream, Error> {
    match proxy.scheme() {
        ProxyScheme::Https => {
            let io = reach(connector, proxy).await?;
            let mut io = connector.secure_proxy(io, proxy.host()).await?;
            tunnel(&mut io, connector, proxy, uri).await?;
            Ok(io)
        }
        ProxyScheme::Socks5h => {
            let mut io = reach(connector, proxy).await?;
            let target = socks::Target::of(uri.host(), uri.port())?;
            socks::connect(&mut io, proxy.login(), &target).await?;
            Ok(io)
        }
        ProxyScheme::Socks5 => {
            // A zone is meaningless to the proxy and is not sent.
            let addresses = connector.resolve(uri.host(), uri.port()).await?;
            let mut failure = None;
            for address in addresses.into_iter().take(MOST_ADDRESSES) {
                let mut io = reach(connector, proxy).await?;
                match socks::connect(&mut io, proxy.login(), &address.into()).await {
                    Ok(()) => return Ok(io),
                    // The proxy may reach another address.
                    Err(Error::Proxy(error @ ProxyError::Socks { .. })) => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(failure.map_or_else(|| dial::no_address(uri.host()), Error::Proxy))
        }
        ProxyScheme::Http => {
            let mut io = reach(connector, proxy).await?;
            tunnel(&mut io, connector, proxy, uri).await?;
            Ok(io)
        }
    }
}

/// Connects to the proxy itself.
async fn reach(connector: &Connector, proxy: &ProxyUri) -> Result<ClientStream, Error> {
    connector.tcp(&dial::with_zone(proxy.host(), proxy.zone()), proxy.port()).await
}

/// Asks an HTTP proxy for a connection (RFC 9110 §9.3.6).
async fn tunnel(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    connector: &Connector,
    proxy: &ProxyUri,
    uri: &WebSocketUri,
) -> Result<(), Error> {
    io.write_all(&proxy.connect_request(uri, &connector.proxy_headers)?).await?;
    io.flush().await?;
    let mut parser = ResponseParser::new(HeadLimits::default());
    loop {
        // Read one byte at a time: the bytes after the head are the server's and must stay for TLS or the handshake.
        let mut byte = [0];
        if io.read(&mut byte).await? == 0 {
            return Err(ProxyError::ClosedEarly.into());
        }
        if let Some(head) = parser.handle_bytes(&byte).map_err(ProxyError::Head)? {
            if head.parts.status.is_success() {
                return Ok(());
            }
            let response = Box::new(Response::from_parts(head.parts, ()));
            return Err(ProxyError::Refused { response }.into());
        }
    }
}

/// The maximum number of a server's addresses to request from a SOCKS proxy, one after the other.
const MOST_ADDRESSES: usize = 4;
