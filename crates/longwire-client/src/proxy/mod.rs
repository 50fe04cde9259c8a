//! Proxies: choosing one for a connection, and connecting through it.
//!
//! A proxy's response is bounded in size, and the attempt's deadline covers it. Nothing after the response is
//! read, so no byte from the server is lost.

mod environment;
mod error;
mod proxies;
mod socks;
mod uri;

#[cfg(feature = "tls")]
use std::sync::Arc;

use http::{HeaderMap, Response};
use longwire_handshake::{HeadLimits, ResponseParser, WebSocketUri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) use environment::Environment;
pub use error::ProxyError;
pub(crate) use error::is_final;
pub(crate) use proxies::Proxies;
pub(crate) use uri::{ProxyScheme, ProxyUri};

use crate::dial::{self, Dialer};
use crate::{ClientStream, Error};

/// The options of connections to proxies, which apply to every proxy.
#[derive(Clone, Default)]
pub(crate) struct ProxyOptions {
    /// The header fields of CONNECT besides `Host`.
    pub(crate) headers: HeaderMap,
    /// The TLS configuration; the default if `None`.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl ProxyOptions {
    /// Establishes TLS with a proxy. It uses neither the roots nor the certificate that are meant for servers.
    #[cfg(feature = "tls")]
    async fn secure(&self, io: ClientStream, host: &str) -> Result<ClientStream, Error> {
        crate::tls::wrap(io, host, self.tls.as_ref()).await.map_err(of_proxy)
    }

    #[cfg(not(feature = "tls"))]
    #[allow(clippy::unused_async, reason = "with TLS it waits")]
    async fn secure(&self, _: ClientStream, _: &str) -> Result<ClientStream, Error> {
        Err(Error::TlsUnsupported)
    }
}

/// Connects to the server of `uri` through a proxy.
pub(crate) async fn connect(
    dialer: &Dialer,
    options: &ProxyOptions,
    proxy: &ProxyUri,
    uri: &WebSocketUri,
) -> Result<ClientStream, Error> {
    match proxy.scheme() {
        ProxyScheme::Https => {
            let io = reach(dialer, proxy).await?;
            let mut io = options.secure(io, proxy.host()).await?;
            tunnel(&mut io, &options.headers, proxy, uri).await.map_err(of_proxy)?;
            Ok(io)
        }
        ProxyScheme::Socks5h => {
            let mut io = reach(dialer, proxy).await?;
            let target = socks::Target::of(uri.host(), uri.port())?;
            socks::connect(&mut io, proxy.login(), &target).await?;
            Ok(io)
        }
        ProxyScheme::Socks5 => {
            // A zone is meaningless to the proxy and is not sent.
            let addresses = dialer.resolve(uri.host(), uri.port()).await?;
            let mut failure = None;
            for address in addresses.into_iter().take(MOST_ADDRESSES) {
                let mut io = reach(dialer, proxy).await?;
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
            let mut io = reach(dialer, proxy).await?;
            tunnel(&mut io, &options.headers, proxy, uri).await?;
            Ok(io)
        }
    }
}

/// Names the proxy as the origin of an error of its stream.
fn of_proxy(error: Error) -> Error {
    match error {
        #[cfg(feature = "tls")]
        Error::Tls(crate::TlsError::Handshake(error)) => ProxyError::TlsHandshake(error).into(),
        #[cfg(feature = "tls")]
        Error::Tls(error) => ProxyError::Tls(error).into(),
        Error::ClosedEarly => ProxyError::ClosedEarly.into(),
        error => error,
    }
}

/// Connects to the proxy itself.
async fn reach(dialer: &Dialer, proxy: &ProxyUri) -> Result<ClientStream, Error> {
    let (host, port) = (dial::with_zone(proxy.host(), proxy.zone()), proxy.port());
    let reached = match dialer.resolve(&host, port).await {
        Ok(addresses) => dialer.dial(&host, port, addresses).await,
        Err(error) => Err(error),
    };
    reached.map(ClientStream::Tcp).map_err(|error| match error {
        Error::Resolve { host, source } => ProxyError::Resolve { host, source }.into(),
        Error::Connect { host, port, source } => ProxyError::Connect { host, port, source }.into(),
        error => error,
    })
}

/// Asks an HTTP proxy for a connection (RFC 9110 §9.3.6).
async fn tunnel(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    headers: &HeaderMap,
    proxy: &ProxyUri,
    uri: &WebSocketUri,
) -> Result<(), Error> {
    io.write_all(&proxy.connect_request(uri, headers)?).await?;
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
