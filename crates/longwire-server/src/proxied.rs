//! Whom a connection is from: the peer, or whom a trusted proxy speaks for.
//!
//! What the proxy's header looks like is `longwire-handshake`'s.

use std::io;
use std::net::SocketAddr;

use longwire_handshake::{ProxyHeader, ProxyHeaderParser, TrustedProxies};
use tokio::io::AsyncReadExt;

use crate::Transport;

/// The addresses at both ends of a connection, where there are any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
}

/// Finds out whose connection it is. Nothing that is meant for anybody else is read.
///
/// # Errors
///
/// Those of the transport, and [`InvalidData`](io::ErrorKind::InvalidData) if the header is malformed or missing.
pub(crate) async fn find_ends(
    io: &mut Transport,
    peer: Option<SocketAddr>,
    proxies: &TrustedProxies,
) -> io::Result<Ends> {
    let known = Ends { peer, local: io.local_addr() };
    if !proxies.trusts(peer.map(|peer| peer.ip())) {
        return Ok(known);
    }
    let ProxyHeader { source, destination } = read_header(io).await?;
    // A proxy that says nothing speaks for itself.
    Ok(Ends { peer: source.or(known.peer), local: destination.or(known.local) })
}

async fn read_header(io: &mut Transport) -> io::Result<ProxyHeader> {
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
