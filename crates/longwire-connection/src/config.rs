//! The configuration of a connection, and the result of its handshake.

#[cfg(feature = "deflate")]
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "deflate")]
use longwire_protocol::deflate::{Agreement, DeflateOptions, Pool, PoolOptions};
use longwire_protocol::{Keepalive, Limits, MaskingKeys, Role};

use crate::{Measurements, MemoryBudget, RateLimit};

/// The configuration of a connection.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use longwire_connection::{Config, Limits};
///
/// let config = Config::default()
///     .with_limits(Limits::default().with_max_message(64 * 1024))
///     .with_close_timeout(Duration::from_secs(1));
/// assert!(config.auto_pong);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Limits on single messages and frames from the peer. Defaults: 16 MiB for messages and frames, 131 072
    /// fragments per message.
    pub limits: Limits,
    /// A limit on the rate at which the peer may send. Default `None`: an application that receives at its own pace
    /// already holds the peer back, because unread data fills TCP's window instead of memory here. Set a limit if
    /// messages are expensive for the application.
    pub rate_limit: Option<RateLimit>,
    /// A limit on the memory of incoming incomplete messages and of compressors, shared with other connections.
    /// Default `None`; a server has one of 1 GiB for all its clients.
    pub memory: Option<MemoryBudget>,
    /// Histograms of message sizes and round trips, shared with other connections. Default `None`.
    pub measurements: Option<Measurements>,
    /// The times after which a silent peer is pinged and then given up. Default `None`; servers use
    /// [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// Whether pings are answered. Default `true`, as RFC 6455 §5.5.2 requires; if `false`, the application must
    /// answer them.
    pub auto_pong: bool,
    /// The time limit of the closing handshake, from the first close frame to the end of the transport. Default
    /// 5 s. The limit starts again while the peer accepts bytes, up to 24 times the limit in total. A transport that
    /// cannot be written to any more is read for as long, without keepalive.
    pub close_timeout: Duration,
    /// The number of queued bytes from which `send` waits and `try_send` refuses. Default 128 KiB:
    /// a peer that keeps up gets as much in one write as arrives in one read.
    ///
    /// A message is accepted whole as long as fewer bytes are queued, so the queue holds at most this many bytes
    /// and one message, or the answers of one [`reply_with`](crate::WebSocket::reply_with).
    pub send_queue: usize,
    /// The time without a message in either direction after which a compressed connection returns its compressor
    /// (up to 384 KiB) and its decompressor (48 KiB) to the pool, if it holds any: the pool bounds the number of
    /// connections that do, by default 16 compressors and 64 decompressors. Default 250 ms. The connection keeps the
    /// window of received data, at most 32 KiB, and the end of what it sent: 4 KiB for each level, or the length of its
    /// longest message of late if that is more. The next message sent then costs about 10 µs more at level 1, and the
    /// next one received 1 µs more. Contexts that no connection needs for 4 s are freed, as long as connections are
    /// active.
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
            send_queue: 128 * 1024,
            #[cfg(feature = "deflate")]
            deflate_idle: Duration::from_millis(250),
        }
    }
}

impl Config {
    /// Creates the configuration of a server that faces the open internet: the defaults, with [`Keepalive::default`]
    /// and a new [`MemoryBudget`] of 1 GiB. The budget is shared by all connections that use clones of this value.
    #[must_use]
    pub fn for_server() -> Self {
        Self::default().with_keepalive(Keepalive::default()).with_memory(MemoryBudget::new(SERVER_MEMORY))
    }

    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`rate_limit`](Self::rate_limit).
    #[must_use]
    pub fn with_rate_limit(mut self, rate_limit: impl Into<Option<RateLimit>>) -> Self {
        self.rate_limit = rate_limit.into();
        self
    }

    /// Sets [`memory`](Self::memory).
    #[must_use]
    pub fn with_memory(mut self, memory: impl Into<Option<MemoryBudget>>) -> Self {
        self.memory = memory.into();
        self
    }

    /// Sets [`measurements`](Self::measurements).
    #[must_use]
    pub fn with_measurements(mut self, measurements: impl Into<Option<Measurements>>) -> Self {
        self.measurements = measurements.into();
        self
    }

    /// Sets [`keepalive`](Self::keepalive).
    #[must_use]
    pub fn with_keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.keepalive = keepalive.into();
        self
    }

    /// Sets [`auto_pong`](Self::auto_pong).
    #[must_use]
    pub fn with_auto_pong(mut self, auto_pong: bool) -> Self {
        self.auto_pong = auto_pong;
        self
    }

    /// Sets [`close_timeout`](Self::close_timeout).
    #[must_use]
    pub fn with_close_timeout(mut self, close_timeout: Duration) -> Self {
        self.close_timeout = close_timeout;
        self
    }

    /// Sets [`send_queue`](Self::send_queue).
    #[must_use]
    pub fn with_send_queue(mut self, send_queue: usize) -> Self {
        self.send_queue = send_queue;
        self
    }

    /// Sets [`deflate_idle`](Self::deflate_idle).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate_idle(mut self, deflate_idle: Duration) -> Self {
        self.deflate_idle = deflate_idle;
        self
    }
}

/// Enough for 64 clients that send messages of the maximum length at once, or for 16 000 that send 64 KiB.
const SERVER_MEMORY: usize = 1 << 30;

/// The result of an opening handshake, from which a connection is created.
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
    /// Creates the handover for the server's end of a connection.
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

    /// Creates the handover for the client's end of a connection. Its masking keys must come from a
    /// cryptographically secure generator (RFC 6455 §10.3).
    pub const fn client(keys: MaskingKeys) -> Self {
        let mut handover = Self::server();
        handover.keys = Some(keys);
        handover
    }

    /// Sets the bytes that were read after the head of the handshake: the first frames. Default: none.
    #[must_use]
    pub fn read_ahead(mut self, read_ahead: impl Into<Bytes>) -> Self {
        self.read_ahead = read_ahead.into();
        self
    }

    /// Sets the negotiated subprotocol. Default: none.
    #[must_use]
    pub fn subprotocol(mut self, subprotocol: Option<String>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// Sets the negotiated extensions, as the header names them. Default: none.
    #[must_use]
    pub fn extensions(mut self, extensions: Option<String>) -> Self {
        self.extensions = extensions;
        self
    }

    /// Compresses messages with the negotiated parameters and with contexts from the pool of the process. It has the
    /// bounds of [`PoolOptions::default`](longwire_protocol::deflate::PoolOptions), but those for idle contexts are at
    /// least one compressor and two decompressors for each core.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(self, agreement: Agreement, options: &DeflateOptions) -> Self {
        static POOL: LazyLock<Pool> = LazyLock::new(|| {
            // As many as can work at once; a message that arrives in parts holds a decompressor until its end.
            let cores = std::thread::available_parallelism().map_or(4, usize::from);
            let mut options = PoolOptions::default();
            options.idle_compressors = options.idle_compressors.max(cores);
            options.idle_decompressors = options.idle_decompressors.max(2 * cores);
            Pool::new(options)
        });
        let compression = longwire_protocol::Compression::new(agreement, options, &POOL);
        self.extensions(Some(agreement.to_string())).compression(compression)
    }

    /// Compresses messages with this compression.
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
