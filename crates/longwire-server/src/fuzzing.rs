//! The parsers that only the project's fuzz targets call from outside. Not part of the API.

use std::net::SocketAddr;

use crate::proxy_protocol::{ProxyHeader, ProxyHeaderParser};

/// Reads a header of the PROXY protocol.
#[derive(Debug, Default)]
pub struct ProxyProtocol(ProxyHeaderParser);

/// The source and the destination that a header names.
pub type Addresses = (Option<SocketAddr>, Option<SocketAddr>);

impl ProxyProtocol {
    /// The length of the longest header that is accepted.
    pub const MAX_LEN: usize = ProxyHeaderParser::MAX_LEN;

    /// Returns how many bytes may be given.
    pub fn wanted(&self) -> usize {
        self.0.wanted()
    }

    /// Takes the next bytes, at most as many as are wanted. Returns the addresses once the header is complete.
    ///
    /// # Errors
    ///
    /// The text of the error.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Addresses>, String> {
        let header = self.0.handle_bytes(bytes).map_err(|error| error.to_string())?;
        Ok(header.map(|ProxyHeader { source, destination }| (source, destination)))
    }
}
