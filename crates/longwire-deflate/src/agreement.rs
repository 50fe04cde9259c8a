//! The parameters that both ends follow after the handshake (RFC 7692 §7.1).
//!
//! Owns the agreement as a value. Reaching one belongs to `negotiate.rs`.

use std::fmt;

use crate::{WindowBits, params::Params};

/// The parameters that the two ends agreed on.
///
/// Its [`Display`](fmt::Display) form is the server's answer, such as
/// `permessage-deflate; server_max_window_bits=10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreement {
    /// `client_max_window_bits` has a value or is absent.
    params: Params,
}

impl Agreement {
    pub(crate) fn new(params: Params) -> Self {
        Self { params }
    }

    /// Returns the compression of messages from the server to the client: a server sends with this, a client receives
    /// with it.
    pub fn server_to_client(&self) -> Direction {
        Direction {
            window_bits: self.params.server_max_window_bits.unwrap_or(WindowBits::MAX),
            context_takeover: !self.params.server_no_context_takeover,
        }
    }

    /// Returns the compression of messages from the client to the server: a client sends with this, a server receives
    /// with it.
    pub fn client_to_server(&self) -> Direction {
        Direction {
            window_bits: self.params.client_window().unwrap_or(WindowBits::MAX),
            context_takeover: !self.params.client_no_context_takeover,
        }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.params.fmt(f)
    }
}

/// The compression of the messages in one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Direction {
    /// The window that the sender may refer back into and that the receiver keeps.
    pub window_bits: WindowBits,

    /// Whether a message may refer to the content of earlier messages: if not, each starts from an empty window.
    pub context_takeover: bool,
}

impl Direction {
    /// Returns the number of bytes of plaintext that either end keeps between messages.
    pub(crate) fn kept(self) -> usize {
        if self.context_takeover { self.window_bits.size() } else { 0 }
    }
}
