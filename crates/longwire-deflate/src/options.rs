//! The user's compression settings, for either role.

use crate::{Offer, WindowBits, params::ClientWindow, params::Params};

/// The compressor's effort: from 1, the fastest, to 9, the smallest output.
///
/// Decompression takes about the same time for all levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Level 1. With context takeover it compresses small JSON messages about as far as level 6 does without, in a
    /// sixth of the time (2.5 µs instead of 15 for 1 KiB, to a third of its size).
    ///
    /// Other libraries use zlib's default, level 6. For the same messages of 1 KiB of JSON with context takeover, level
    /// 6 sends a quarter less (217 bytes instead of 301), and takes four times as long.
    pub const FASTEST: Self = Self(1);

    /// Level 9.
    pub const SMALLEST: Self = Self(9);

    /// Creates a level; `None` unless it is 1 to 9. (0 would not compress at all.)
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

/// Settings for the offers of a client and the answers of a server, and for compressing messages.
///
/// The same fields serve both roles, and are named after the parameters (RFC 7692 §7.1): `server_*` concerns messages
/// from the server to the client, `client_*` the others. By default a server accepts what the client proposes, and a
/// client offers `permessage-deflate; client_max_window_bits`, as browsers do.
///
/// # Memory
///
/// With context takeover each end keeps the last window of what it received, at most 32 KiB, and the end of what it
/// sent: 4 KiB for each [`level`](Self::level), or as much as its longest message of late, at most 32 KiB; less with
/// fewer window bits. Without it, nothing is kept between messages. The compressors and decompressors themselves are
/// shared by all connections of a [`Pool`](crate::Pool).
///
/// # Security
///
/// If a message holds a secret together with text chosen by an attacker, its compressed size leaks information about
/// the secret (RFC 7692 §8 refers to CRIME). With context takeover this applies to all messages of a connection: send
/// such messages uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeflateOptions {
    /// The effort of compression. Default: [`Level::FASTEST`], which documents the reason.
    pub level: Level,

    /// Messages with fewer bytes are sent uncompressed, as any message may be. Default: 1024, below which a packet is
    /// hardly ever saved. This crate does not apply it: the framing layer does.
    pub threshold: usize,

    /// Whether the server starts each message from an empty window. Default: false.
    ///
    /// If set, a server does so and announces it in its answer; otherwise it follows the client's request. If set, a
    /// client requests it.
    pub server_no_context_takeover: bool,

    /// Whether the client starts each message from an empty window. Default: false.
    ///
    /// If set, a server demands it, which every client must accept; otherwise it accepts the client's hint. If set, a
    /// client gives the hint, and does so whether or not the server's answer repeats it.
    pub client_no_context_takeover: bool,

    /// The largest window of the server. Default: 15 bits, no restriction.
    ///
    /// A server uses at most this, or less if the client requests less. It declines an offer of 8 bits, with which it
    /// cannot compress; if set to 8 bits it uses 9 when the client leaves it the choice. A client requests it if it is
    /// less than 15 bits.
    pub server_max_window_bits: WindowBits,

    /// The largest window of the client. Default: 15 bits, no restriction.
    ///
    /// A server that sets less declines the offers of clients that do not let it choose (without
    /// `client_max_window_bits`). A client uses at most this, and always lets the server choose less; at 8 bits it
    /// sends messages uncompressed.
    pub client_max_window_bits: WindowBits,

    /// Whether a client that makes requests to the server adds a second offer without them. Default: true.
    ///
    /// A server that cannot do what is requested must decline the offer (RFC 7692 §7.1.1.1, §7.1.2.1); with the
    /// second offer the connection is compressed nevertheless, at the price of keeping a larger window of received
    /// data.
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
    /// Sets [`level`](Self::level).
    #[must_use]
    pub fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets [`threshold`](Self::threshold).
    #[must_use]
    pub fn with_threshold(mut self, threshold: usize) -> Self {
        self.threshold = threshold;
        self
    }

    /// Sets [`server_no_context_takeover`](Self::server_no_context_takeover).
    #[must_use]
    pub fn with_server_no_context_takeover(mut self, server_no_context_takeover: bool) -> Self {
        self.server_no_context_takeover = server_no_context_takeover;
        self
    }

    /// Sets [`client_no_context_takeover`](Self::client_no_context_takeover).
    #[must_use]
    pub fn with_client_no_context_takeover(mut self, client_no_context_takeover: bool) -> Self {
        self.client_no_context_takeover = client_no_context_takeover;
        self
    }

    /// Sets [`server_max_window_bits`](Self::server_max_window_bits).
    #[must_use]
    pub fn with_server_max_window_bits(mut self, server_max_window_bits: WindowBits) -> Self {
        self.server_max_window_bits = server_max_window_bits;
        self
    }

    /// Sets [`client_max_window_bits`](Self::client_max_window_bits).
    #[must_use]
    pub fn with_client_max_window_bits(mut self, client_max_window_bits: WindowBits) -> Self {
        self.client_max_window_bits = client_max_window_bits;
        self
    }

    /// Sets [`fallback`](Self::fallback).
    #[must_use]
    pub fn with_fallback(mut self, fallback: bool) -> Self {
        self.fallback = fallback;
        self
    }
}

impl DeflateOptions {
    /// Returns the client's offers, in order of preference: one offer, or two with [`fallback`](Self::fallback).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setter_sets_its_field_and_no_other() {
        let default = DeflateOptions::default;
        let small = WindowBits::MIN;
        for (set, expected) in [
            (default().with_level(Level::SMALLEST), DeflateOptions { level: Level::SMALLEST, ..default() }),
            (default().with_threshold(7), DeflateOptions { threshold: 7, ..default() }),
            (
                default().with_server_no_context_takeover(true),
                DeflateOptions { server_no_context_takeover: true, ..default() },
            ),
            (
                default().with_client_no_context_takeover(true),
                DeflateOptions { client_no_context_takeover: true, ..default() },
            ),
            (
                default().with_server_max_window_bits(small),
                DeflateOptions { server_max_window_bits: small, ..default() },
            ),
            (
                default().with_client_max_window_bits(small),
                DeflateOptions { client_max_window_bits: small, ..default() },
            ),
            (default().with_fallback(false), DeflateOptions { fallback: false, ..default() }),
        ] {
            assert_eq!(set, expected);
            assert_ne!(set, default());
        }
    }

    #[test]
    fn a_request_to_the_server_is_followed_by_an_offer_without_it() {
        let plain = "permessage-deflate; client_max_window_bits";
        for (case, options, offers) in [
            ("no request", DeflateOptions::default(), &[plain][..]),
            (
                "takeover",
                DeflateOptions::default().with_server_no_context_takeover(true),
                &["permessage-deflate; server_no_context_takeover; client_max_window_bits", plain],
            ),
            (
                "a window",
                DeflateOptions::default().with_server_max_window_bits(WindowBits::MIN),
                &["permessage-deflate; server_max_window_bits=8; client_max_window_bits", plain],
            ),
            (
                "no fallback",
                DeflateOptions::default().with_server_no_context_takeover(true).with_fallback(false),
                &["permessage-deflate; server_no_context_takeover; client_max_window_bits"],
            ),
        ] {
            let offered: Vec<_> = options.offers().iter().map(ToString::to_string).collect();
            assert_eq!(offered, offers, "{case}");
        }
    }
}
