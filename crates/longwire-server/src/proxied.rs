//! The addresses of a connection, which a trusted proxy may supply.
//!
//! The format of the proxy's header belongs to [`proxy_protocol`](crate::proxy_protocol).

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use crate::proxy_protocol::{ProxyHeader, ProxyHeaderParser};
use crate::{ServerStream, TrustedProxies};

/// The addresses at both ends of a connection, if there are any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// Determines the addresses of a connection. Reads no byte after the proxy's header.
///
/// # Errors
///
/// The errors of the transport, and [`InvalidData`](io::ErrorKind::InvalidData) if the header is malformed or
/// missing.
pub(crate) async fn find_ends(
    io: &mut ServerStream,
    peer: Option<SocketAddr>,
    proxies: &TrustedProxies,
) -> io::Result<Ends> {
    let known = Ends { peer, local: io.local_addr() };
    if !proxies.trusts(peer.map(|peer| peer.ip())) {
        return Ok(known);
    }
    let ProxyHeader { source, destination } = read_header(io).await?;
    // A proxy that names no addresses speaks for itself.
    Ok(Ends { peer: source.or(known.peer), local: destination.or(known.local) })
}

async fn read_header(io: &mut ServerStream) -> io::Result<ProxyHeader> {
    let mut parser = ProxyHeaderParser::default();
    let mut space = [0; 256];
    loop {
        let wanted = parser.wanted().min(space.len());
        let n = io.read(&mut space[..wanted]).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = parser.handle_bytes(&space[..n]);
        if let Some(header) = header.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            return Ok(header);
        }
    }
}
