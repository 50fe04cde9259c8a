//! The parsers that only the project's fuzz targets call from outside. Not part of the API.

use bytes::Bytes;
use http::{HeaderMap, response};
use longwire_handshake::WebSocketUri;

use crate::body::{BodyFraming, BodyReader};
use crate::proxy::ProxyUri;

/// The URL of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy(ProxyUri);

impl Proxy {
    /// Reads the URL of a proxy.
    ///
    /// # Errors
    ///
    /// The text of the error.
    pub fn parse(text: &str) -> Result<Self, String> {
        ProxyUri::parse(text).map(Self).map_err(|error| error.to_string())
    }

    /// Returns the URL without user and password.
    pub fn shown(&self) -> String {
        self.0.to_string()
    }

    /// Returns the name or address to dial, its zone, and the port.
    pub fn place(&self) -> (&str, Option<&str>, u16) {
        (self.0.host(), self.0.zone(), self.0.port())
    }

    /// Returns user and password.
    pub fn login(&self) -> Option<(&[u8], &[u8])> {
        self.0.login().map(|login| (login.user(), login.password()))
    }

    /// Returns the request for a connection to a server, or `None` if there can be none.
    pub fn connect_request(&self, uri: &WebSocketUri) -> Option<Bytes> {
        self.0.connect_request(uri, &HeaderMap::new()).ok()
    }
}

/// Reads the body of a refusal.
#[derive(Debug)]
pub struct RefusalBody(BodyReader);

impl RefusalBody {
    /// Creates a reader that keeps at most `limit` bytes of the body after this head.
    pub fn new(head: &response::Parts, limit: usize) -> Self {
        Self(BodyReader::new(BodyFraming::of(head), limit))
    }

    /// Takes the next bytes.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.0.handle_bytes(bytes);
    }

    /// Returns whether no more bytes are needed.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Ends the connection. Returns the body, and whether it was cut.
    pub fn finish(mut self) -> (Bytes, bool) {
        self.0.handle_eof();
        let is_truncated = self.0.is_truncated();
        (self.0.into_body(), is_truncated)
    }
}
