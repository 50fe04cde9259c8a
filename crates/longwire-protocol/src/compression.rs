//! permessage-deflate in the two halves of a connection (RFC 7692 §6, §7.2).
//!
//! Owns the choice of messages to compress and the consequences of a broken one. Windows and contexts belong to
//! `longwire-deflate`; RSV1 and frames to [`crate::inbound`] and [`crate::outbound`].

use bytes::Bytes;
use longwire_deflate::{
    Agreement, DeflateOptions, Deflater, Direction, InflateError, Inflater, Level, Pool, Progress,
};
use longwire_frame::{MaskingKey, Role, mask};

use crate::{Compress, CompressionStats, PreparedMessage, ProtocolError};

/// The compression of a connection: the parameters agreed on in the handshake, this end's choices, and the pool of
/// contexts.
///
/// # Examples
///
/// ```
/// use longwire_deflate::{DeflateOptions, Pool, verify};
/// use longwire_protocol::{Compression, Event, Inbound, Limits, Outbound, Role};
///
/// let options = DeflateOptions::default();
/// let agreement = verify([], &options.offers()).unwrap(); // what both ends took from the handshake
/// let compression = Compression::new(agreement, &options, &Pool::default());
///
/// let mut server = Outbound::new(None);
/// server.set_compression(&compression);
/// server.message("la".repeat(1000).into())?;
/// let mut wire = server.queue().contiguous().unwrap();
/// assert!(wire.len() < 50);
///
/// let mut client = Inbound::new(Role::Client, Limits::default());
/// client.set_compression(&compression);
/// assert_eq!(client.decode(&mut wire), Ok(Some(Event::Message("la".repeat(1000).into()))));
/// # Ok::<(), longwire_protocol::SendError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compression {
    agreement: Agreement,
    level: Level,
    threshold: usize,
    pool: Pool,
}

impl Compression {
    /// Combines the agreed parameters, the level and threshold of compression, and the source of contexts.
    ///
    /// Connections that share a pool share its contexts: one pool per process is enough.
    pub fn new(agreement: Agreement, options: &DeflateOptions, pool: &Pool) -> Self {
        Self { agreement, level: options.level, threshold: options.threshold, pool: pool.clone() }
    }

    /// Returns the parameters agreed on in the handshake.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Returns the source of contexts.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn inflating(&self, role: Role) -> Inflating {
        let direction = match role {
            Role::Client => self.agreement.server_to_client(),
            Role::Server => self.agreement.client_to_server(),
        };
        Inflating {
            inflater: Inflater::new(&self.pool, direction),
            stats: CompressionStats::default(),
            is_fed_ahead: false,
        }
    }

    pub(crate) fn deflating(&self, role: Role) -> Option<Deflating> {
        let direction = match role {
            Role::Client => self.agreement.client_to_server(),
            Role::Server => self.agreement.server_to_client(),
        };
        let deflater = Deflater::new(&self.pool, direction, self.level)?;
        let &Self { level, threshold, .. } = self;
        let stats = CompressionStats::default();
        Some(Deflating { deflater, direction, level, threshold, pool: self.pool.clone(), stats })
    }
}

/// Decompression of the messages that one end receives.
#[derive(Debug)]
pub(crate) struct Inflating {
    inflater: Inflater,
    stats: CompressionStats,
    /// Whether the first byte of the next piece has already been given to the inflater: it was reported as not consumed
    /// because it may yield more output.
    is_fed_ahead: bool,
}

impl Inflating {
    /// Decompresses some of a piece of a message's payload that is still masked, and returns how many bytes of it are
    /// consumed: all of them, or at least one less if it stopped after appending about `step` bytes to `out`. The
    /// caller passes in the rest again.
    ///
    /// `phase` is the number of bytes of the frame's payload before the piece. At most `room` bytes are appended.
    pub(crate) fn inflate(
        &mut self,
        piece: &[u8],
        key: Option<MaskingKey>,
        phase: usize,
        out: &mut Vec<u8>,
        room: usize,
        step: usize,
    ) -> Result<usize, InflateError> {
        if piece.is_empty() {
            return Ok(0);
        }
        let ahead = usize::from(std::mem::take(&mut self.is_fed_ahead));
        let (mut taken, progress) = if let Some(key) = key {
            self.inflate_masked(piece, ahead, (key, phase), out, room, step)?
        } else {
            let mut input = &piece[ahead..];
            let progress = self.inflater.inflate_some(&mut input, out, room, step)?;
            (piece.len() - input.len(), progress)
        };
        if progress == Progress::Full && taken == piece.len() {
            // The caller must call again, even though the inflater already has the whole piece.
            self.is_fed_ahead = true;
            taken -= 1;
        }
        self.stats.wire_bytes += taken as u64;
        Ok(taken)
    }

    /// Unmasks and decompresses a piece from `at` on; returns how much of it the inflater has taken.
    fn inflate_masked(
        &mut self,
        piece: &[u8],
        mut at: usize,
        (key, phase): (MaskingKey, usize),
        out: &mut Vec<u8>,
        room: usize,
        step: usize,
    ) -> Result<(usize, Progress), InflateError> {
        let (limit, until) = (out.len().saturating_add(room), out.len().saturating_add(step));
        let mut unmasked = [0; UNMASK_STEP];
        loop {
            let masked = &piece[at..];
            let unmasked = &mut unmasked[..masked.len().min(UNMASK_STEP)];
            unmasked.copy_from_slice(&masked[..unmasked.len()]);
            mask::apply(unmasked, key, phase + at);
            let (mut input, len) = (&*unmasked, unmasked.len());
            let step = until.saturating_sub(out.len());
            let progress = self.inflater.inflate_some(&mut input, out, limit - out.len(), step)?;
            at += len - input.len();
            if progress == Progress::Full || at == piece.len() {
                return Ok((at, progress));
            }
        }
    }

    /// Ends a message that yielded `len` bytes.
    pub(crate) fn finish(&mut self, len: usize) -> Result<(), InflateError> {
        self.stats.messages += 1;
        self.stats.payload_bytes += len as u64;
        self.inflater.finish()
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        self.stats
    }

    /// Returns whether a decompressor is kept for this connection.
    pub(crate) fn is_live(&self) -> bool {
        !self.inflater.is_parked()
    }

    pub(crate) fn park(&mut self) {
        self.inflater.park();
    }

    /// Gives up an incomplete message, with everything held for it. No message follows.
    pub(crate) fn discard(&mut self) {
        self.inflater.discard();
    }
}

/// The memory of a decompressor, in bytes.
pub(crate) const CONTEXT_MEMORY: usize = Inflater::CONTEXT_MEMORY;

/// The most memory that a compressor takes, in bytes.
pub(crate) const COMPRESSOR_MEMORY: usize = Deflater::CONTEXT_MEMORY;

impl ProtocolError {
    /// Converts a decompression error to the protocol violation that it represents, given a limit of `max` bytes per
    /// message.
    pub(crate) fn of_inflating(error: InflateError, max: usize) -> Self {
        match error {
            InflateError::TooBig { .. } => Self::MessageTooLong { len: (max as u64).saturating_add(1), max },
            InflateError::TooManyFinals => Self::TooManyFinalBlocks,
            _ => Self::MalformedCompression,
        }
    }
}

/// Compression of the messages that one end sends.
#[derive(Debug)]
pub(crate) struct Deflating {
    deflater: Deflater,
    direction: Direction,
    level: Level,
    threshold: usize,
    pool: Pool,
    stats: CompressionStats,
}

impl Deflating {
    /// Returns whether a message that begins with `len` bytes is to be compressed.
    #[inline]
    pub(crate) fn wants(&self, len: usize, compress: Compress) -> bool {
        match compress {
            Compress::Auto => len >= self.threshold,
            Compress::Always => true,
            Compress::Never => false,
        }
    }

    /// Compresses a whole message; returns `None` if it would not get smaller and may be sent uncompressed.
    pub(crate) fn message(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        self.deflater.compress(message, &mut payload);
        // With context takeover, compressed output must be sent: the next message refers to it.
        let is_sent = self.direction.context_takeover || payload.len() < message.len();
        if is_sent {
            self.count(message.len(), payload.len(), true);
        }
        is_sent.then_some(payload)
    }

    /// Compresses a part of a message.
    pub(crate) fn part(&mut self, part: &[u8], last: bool) -> Vec<u8> {
        let mut payload = Vec::new();
        if last {
            self.deflater.compress(part, &mut payload);
        } else {
            self.deflater.compress_part(part, &mut payload);
        }
        self.count(part.len(), payload.len(), last);
        payload
    }

    /// Returns the frame of a message that was compressed once for all receivers, or `None` if it is to be sent
    /// uncompressed.
    ///
    /// The frame refers to nothing before it. If this end keeps its context between messages, the context starts over,
    /// so that nothing later refers to a message that may still be dropped from the queue.
    pub(crate) fn prepared<'a>(&mut self, prepared: &'a PreparedMessage) -> Option<&'a Bytes> {
        if !self.wants(prepared.message_len(), Compress::Auto) {
            return None;
        }
        let alone = Direction { context_takeover: false, ..self.direction };
        let frame = prepared.compressed_frame(alone.window_bits, |message| {
            let mut payload = Vec::new();
            Deflater::new(&self.pool, alone, self.level)?.compress(message, &mut payload);
            (payload.len() < message.len()).then_some(payload)
        })?;
        self.deflater.forget();
        self.count(prepared.message_len(), frame.payload_len, true);
        Some(&frame.bytes)
    }

    fn count(&mut self, payload: usize, wire: usize, last: bool) {
        self.stats.payload_bytes += payload as u64;
        self.stats.wire_bytes += wire as u64;
        self.stats.messages += u64::from(last);
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        self.stats
    }

    /// Returns whether a compressor is kept for this connection.
    pub(crate) fn is_live(&self) -> bool {
        !self.deflater.is_parked()
    }

    pub(crate) fn park(&mut self) {
        self.deflater.park();
    }

    pub(crate) fn abandon(&mut self) {
        self.deflater.forget();
    }
}

/// The number of payload bytes that are unmasked at a time, on the stack, before they are decompressed.
const UNMASK_STEP: usize = 4096;
