//! How a connection behaves, and what the handshake hands over to it.

#[cfg(feature = "deflate")]
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "deflate")]
use longwire_protocol::deflate::{Agreement, DeflateOptions, Pool, PoolOptions};
use longwire_protocol::{Keepalive, Limits, MaskingKeys, Role};

use crate::{Measurements, MemoryBudget, RateLimit};

/// How a connection behaves.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_connection::{Config, Limits};
///
/// let config = Config {
///     limits: Limits { max_message: Some(64 * 1024), ..Limits::default() },
///     close_timeout: Duration::from_secs(1),
///     ..Config::default()
/// };
/// assert!(config.auto_pong);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the peer may send. Defaults: messages and frames of 16 MiB, 131 072 fragments a message.
    pub limits: Limits,
    /// How much the peer may send over time. Default `None`: receiving at its own pace holds a peer back already, as what it
    /// sends in the meantime fills TCP's window and no memory here. A limit is for what a message costs the application.
    pub rate_limit: Option<RateLimit>,
    /// A bound on the memory of messages that have begun to arrive and of compressors, shared with other connections. Default
    /// `None`; servers have one of 1 GiB for all their clients.
    pub memory: Option<MemoryBudget>,
    /// What is counted by size, together with other connections. Default `None`: nothing.
    pub measurements: Option<Measurements>,
    /// When to ping a silent peer and when to give it up. Default `None`; servers set it to [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// Whether pings are answered. Default: yes, as RFC 6455 §5.5.2 demands; otherwise the application has to.
    pub auto_pong: bool,
    /// How long the closing handshake may take in all, from the first close frame to the end of the transport.
    /// Default 5 s. It starts again while the peer takes bytes, for at most 24 times as long in all.
    pub close_timeout: Duration,
    /// How many bytes may wait to be written before `send` waits and `try_send` refuses. Default 64 KiB.
    ///
    /// A message is taken whole as soon as less than this waits, so that up to this and one message is held.
    pub send_queue: usize,
    /// After how long without a message either way a compressing connection gives its compressor (some 300 KiB) and its
    /// decompressor (48 KiB) back to the pool. Default 250 ms. It keeps their windows, of at most 32 KiB each, and the next
    /// message sent costs some 30 µs more, the next one received 1 µs.
    #[cfg(feature = "deflate")]
    pub deflate_idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            rate_limit: None,
            memory: None,
            measurements: None,
            keepalive: None,
            auto_pong: true,
            close_timeout: Duration::from_secs(5),
            send_queue: 64 * 1024,
            #[cfg(feature = "deflate")]
            deflate_idle: Duration::from_millis(250),
        }
    }
}

/// What an opening handshake leaves behind for the connection.
///
/// # Examples
///
/// ```
/// use longwire_connection::Handover;
///
/// let handover = Handover::server().subprotocol(Some("chat".to_owned()));
/// ```
#[derive(Clone, Debug)]
pub struct Handover {
    pub(crate) keys: Option<MaskingKeys>,
    pub(crate) read_ahead: Bytes,
    pub(crate) subprotocol: Option<String>,
    pub(crate) extensions: Option<String>,
    #[cfg(feature = "deflate")]
    pub(crate) compression: Option<longwire_protocol::Compression>,
}

impl Handover {
    /// A server's end.
    pub const fn server() -> Self {
        Self {
            keys: None,
            read_ahead: Bytes::new(),
            subprotocol: None,
            extensions: None,
            #[cfg(feature = "deflate")]
            compression: None,
        }
    }

    /// A client's end, with the source of its masking keys: a cryptographically secure generator (RFC 6455 §10.3).
    pub const fn client(keys: MaskingKeys) -> Self {
        let mut handover = Self::server();
        handover.keys = Some(keys);
        handover
    }

    /// Sets the bytes that arrived behind the handshake's head: they are the first frames. Default: none.
    #[must_use]
    pub fn read_ahead(mut self, read_ahead: impl Into<Bytes>) -> Self {
        self.read_ahead = read_ahead.into();
        self
    }

    /// Sets the subprotocol that was agreed on. Default: none.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: Option<String>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// Sets the extensions that were agreed on, as the header names them. Default: none.
    #[must_use]
    pub fn extensions(mut self, extensions: Option<String>) -> Self {
        self.extensions = extensions;
        self
    }

    /// Compresses messages with what the handshake agreed on, and contexts of the pool that the whole process shares: it
    /// keeps a compressor for each core, and two decompressors, ready for use.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(self, agreement: Agreement, options: &DeflateOptions) -> Self {
        static POOL: LazyLock<Pool> = LazyLock::new(|| {
            // As many as can be at work at once; a message that arrives in parts holds a decompressor meanwhile.
            let cores = std::thread::available_parallelism().map_or(4, usize::from);
            let mut options = PoolOptions::default();
            options.idle_compressors = cores;
            options.idle_decompressors = 2 * cores;
            Pool::new(options)
        });
        let compression = longwire_protocol::Compression::new(agreement, options, &POOL);
        self.extensions(Some(agreement.to_string())).compression(compression)
    }

    /// Compresses messages with this.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn compression(mut self, compression: longwire_protocol::Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    pub(crate) fn role(&self) -> Role {
        if self.keys.is_some() { Role::Client } else { Role::Server }
    }
}
