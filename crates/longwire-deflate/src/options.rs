//! What the user asks of compression, for either role.

use crate::{Offer, WindowBits, params::ClientWindow, params::Params};

/// How hard the compressor searches: 1, the fastest, to 9, the smallest.
///
/// Decompressing takes about the same time for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Level 1. With context takeover it compresses small JSON messages about as far as level 6 does without, in a
    /// sixth of the time (2.5 µs instead of 15 for 1 KiB, to a third of its size).
    pub const FASTEST: Self = Self(1);

    /// Level 9.
    pub const SMALLEST: Self = Self(9);

    /// Takes a level; `None` unless it is 1 to 9. (0 would not compress at all.)
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 9 { Some(Self(level)) } else { None }
    }

    /// Returns the level, 1 to 9.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    /// [`Level::FASTEST`].
    fn default() -> Self {
        Self::FASTEST
    }
}

/// What a client offers and a server accepts, and how messages are compressed then.
///
/// The same fields serve both roles, named as the parameters are (RFC 7692 §7.1): `server_*` is about messages from the
/// server to the client, `client_*` about the others. With the default a server takes what the client proposes, and a
/// client offers `permessage-deflate; client_max_window_bits`, as browsers do.
///
/// # Memory
///
/// With context takeover each end keeps the last window of what it sent, and of what it received: at most 32 KiB each,
/// and less with fewer window bits. Without, nothing is kept between messages. The compressors and decompressors
/// themselves are shared by all connections of a [`Pool`](crate::Pool).
///
/// # Security
///
/// Where a message holds a secret together with text that an attacker chooses, its compressed size tells about the
/// secret (RFC 7692 §8 refers to CRIME). With context takeover that goes for all messages of a connection: send such
/// messages uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateOptions {
    /// How hard to search. Default: [`Level::FASTEST`], which documents its reason.
    pub level: Level,

    /// Messages of fewer bytes are sent uncompressed, which each message is free to be. Default: 1024, below which a
    /// packet is hardly ever saved. This crate does not look at it: whoever frames messages does.
    pub threshold: usize,

    /// The server starts each message from an empty window. Default: false.
    ///
    /// A server then does so and says so in its answer; otherwise it does as the client asks. A client then asks for
    /// it.
    pub server_no_context_takeover: bool,

    /// The client starts each message from an empty window. Default: false.
    ///
    /// A server then demands it, which every client has to accept; otherwise it takes the client's hint. A client then
    /// gives the hint, and does so whether or not the server's answer repeats it.
    pub client_no_context_takeover: bool,

    /// The largest window of the server. Default: 15 bits, no restriction.
    ///
    /// A server uses at most this, or less if the client asks for less. It declines an offer of 8 bits, with which it
    /// cannot compress; set to 8 bits it uses 9 where the client leaves it free. A client asks for it if it is less
    /// than 15 bits.
    pub server_max_window_bits: WindowBits,

    /// The largest window of the client. Default: 15 bits, no restriction.
    ///
    /// A server that sets less declines the offers of clients that do not let it choose (without
    /// `client_max_window_bits`). A client uses at most this, and always lets the server choose less; at 8 bits it
    /// sends uncompressed.
    pub client_max_window_bits: WindowBits,

    /// A client that asks something of the server offers, second, the same without asking. Default: true.
    ///
    /// A server that cannot do what is asked has to decline the offer (RFC 7692 §7.1.1.1, §7.1.2.1); with the second
    /// one the connection is compressed all the same, at the price of keeping a larger window of what was received.
    pub fallback: bool,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self {
            level: Level::default(),
            threshold: 1024,
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: WindowBits::MAX,
            client_max_window_bits: WindowBits::MAX,
            fallback: true,
        }
    }
}

impl DeflateOptions {
    /// Returns what a client offers, in order of preference: one offer, or two with [`fallback`](Self::fallback).
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_deflate::{DeflateOptions, WindowBits};
    ///
    /// let mut options = DeflateOptions::default();
    /// options.server_max_window_bits = WindowBits::new(10).unwrap_or(WindowBits::MAX);
    /// let offers: Vec<_> = options.offers().iter().map(ToString::to_string).collect();
    /// assert_eq!(offers, [
    ///     "permessage-deflate; server_max_window_bits=10; client_max_window_bits",
    ///     "permessage-deflate; client_max_window_bits",
    /// ]);
    /// ```
    pub fn offers(&self) -> Vec<Offer> {
        let restricted = |bits: WindowBits| (bits < WindowBits::MAX).then_some(bits);
        let first = Offer(Params {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: restricted(self.server_max_window_bits),
            client_max_window_bits: restricted(self.client_max_window_bits)
                .map_or(ClientWindow::Any, ClientWindow::AtMost),
        });
        let second = if self.fallback { first.without_demands() } else { None };
        std::iter::once(first).chain(second).collect()
    }
}
