//! Compression of the messages in one direction (RFC 7692 §7.2.1).
//!
//! Owns the wire format of a compressed message, and when a compressor is borrowed. Choosing the messages to compress,
//! and RSV1, belong to the framing layer.

use std::fmt;

use flate2::{Compress, FlushCompress};

use crate::{Direction, Level, Pool, WindowBits, history::History, pool::ContextKind};

/// Compresses the messages that one end of a connection sends.
///
/// Takes a compressor from its [`Pool`] when a message needs one, not earlier. It is given back after each message.
/// With context takeover the end of the window is kept: 4 KiB for each level, or the length of the longest message of
/// late if that is more. If the pool allows it, the compressor is kept as well, until [`park`](Self::park).
///
/// # Output that must be sent
///
/// With context takeover, the next message refers to what was compressed before. The output of
/// [`compress`](Self::compress) must therefore be sent unchanged, once, and in order. If it is not, call
/// [`forget`](Self::forget); otherwise the peer reads garbage. An uncompressed message in between does not matter,
/// because neither end counts it.
///
/// # Prepared messages
///
/// A message for many peers is compressed once, from an empty window, by a deflater without context takeover; every
/// peer whose window is at least as large can read it. If it is sent on a connection with context takeover, it enters
/// the peer's window all the same, so the connection's own deflater must be informed by [`note`](Self::note) or
/// [`forget`](Self::forget).
///
/// ```
/// use longwire_deflate::{Deflater, Direction, Level, Pool, WindowBits};
///
/// let pool = Pool::default();
/// let takeover = Direction { window_bits: WindowBits::MAX, context_takeover: true };
/// let alone = Direction { context_takeover: false, ..takeover };
/// let mut prepared = Vec::new();
/// if let Some(mut deflater) = Deflater::new(&pool, alone, Level::SMALLEST) {
///     deflater.compress(b"to all of you", &mut prepared);
/// }
/// # let mut connections: Vec<_> = Deflater::new(&pool, takeover, Level::FASTEST).into_iter().collect();
/// for connection in &mut connections {
///     // ... the prepared bytes are sent ...
///     connection.forget();
/// }
/// ```
pub struct Deflater {
    pool: Pool,
    /// Positioned at the end of `history`, and at a byte boundary.
    context: Option<Box<Compress>>,
    /// With context takeover, the end of the plaintext that the peer has decompressed.
    history: History,
    direction: Direction,
    level: Level,
    within_message: bool,
    /// The length of the message so far. This and the next two are at most the largest window.
    length: u16,
    /// The length of the longest message since the deflater was parked.
    longest: u16,
    /// The length of the longest message before that, which counts for less each time that the deflater is parked.
    longest_before: u16,
    /// Set while the pool counts this as a connection that keeps its compressor.
    keeps: bool,
}

impl Deflater {
    /// The most memory that a compressor takes, in bytes: 384 KiB.
    pub const CONTEXT_MEMORY: usize = 384 * 1024;

    /// Creates a deflater that allocates nothing until it is used.
    ///
    /// Returns `None` for 8 window bits, with which the backend cannot compress: all messages are then sent
    /// uncompressed, as any message may be (RFC 7692 §6).
    pub fn new(pool: &Pool, direction: Direction, level: Level) -> Option<Self> {
        (direction.window_bits >= WindowBits::SMALLEST_TO_SEND).then(|| Self {
            pool: pool.clone(),
            context: None,
            history: History::default(),
            direction,
            level,
            within_message: false,
            length: 0,
            longest: 0,
            longest_before: 0,
            keeps: false,
        })
    }

    /// Compresses a whole message, or the last part of one, and appends the bytes to send to `out`.
    ///
    /// An empty message becomes one byte (RFC 7692 §7.2.3.6). In the worst case the result is longer than the message
    /// by an eighth and a few bytes.
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) {
        if message.is_empty() {
            // Either an empty stored block precedes this byte, or it is the first byte of the message: in both cases it
            // is the header of another empty block, whose end is not sent.
            out.push(0x00);
        } else {
            self.append(message, out);
            // "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end." (RFC 7692 §7.2.1)
            debug_assert!(out.ends_with(&BLOCK_END));
            out.truncate(out.len() - BLOCK_END.len());
        }
        self.within_message = false;
        self.length = 0;
        self.keeps = self.keeps
            || (self.direction.context_takeover && self.context.is_some() && self.pool.keep_compressor());
        if !self.keeps {
            self.give_back();
        }
    }

    /// Compresses a part of a message other than the last, and appends the bytes to send to `out`.
    ///
    /// The peer can decompress the whole part from them. This costs five bytes for each part; an empty part yields
    /// nothing.
    pub fn compress_part(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !part.is_empty() {
            self.within_message = true;
            self.append(part, out);
        }
    }

    /// Gives the compressor back to the pool and keeps only the end of the window: 4 KiB for each level (4 KiB at level
    /// 1, all 32 KiB from level 8 on), or the length of the longest message of late if that is more; none without
    /// context takeover.
    ///
    /// Intended for connections that have been idle. Within a message this does nothing. The next message takes a
    /// compressor again and loads what was kept into it, which takes about 1 µs for each KiB and 5 µs in any case. It
    /// can refer only to what was kept: at level 1, if this is called after each of many similar messages of 1 KiB,
    /// they get 4 % longer.
    pub fn park(&mut self) {
        if !self.within_message {
            self.give_back();
            self.longest_before = self.longest.max(self.longest_before - self.longest_before / 4);
            self.longest = 0;
            self.history.resize(self.kept());
            self.history.shrink();
        }
    }

    /// Records a message that the peer decompresses but that another deflater has compressed.
    ///
    /// Later messages can refer to it. With context takeover this costs a copy of `plaintext` and parks the compressor;
    /// without, it costs nothing.
    ///
    /// # Panics
    ///
    /// If called between the parts of a message.
    pub fn note(&mut self, plaintext: &[u8]) {
        assert!(!self.within_message, "messages cannot be interleaved");
        if self.direction.context_takeover {
            self.give_back();
            self.longest = self.longest.max(in_window(plaintext.len()));
            self.history.push(plaintext, self.kept());
        }
    }

    /// Starts over: the next message refers to nothing before it.
    ///
    /// This is always correct, whatever the peer has decompressed before. It costs compression ratio, and frees the
    /// window. After the first parts of a message it means that the message is abandoned.
    pub fn forget(&mut self) {
        self.give_back();
        self.history.clear();
        self.within_message = false;
        self.length = 0;
    }

    /// Returns the number of bytes kept for this deflater, not counting a compressor.
    pub fn window_memory(&self) -> usize {
        self.history.allocated()
    }

    /// Returns whether no compressor is held.
    pub fn is_parked(&self) -> bool {
        self.context.is_none()
    }

    fn append(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut context = self.context.take().unwrap_or_else(|| self.resume());
        append(&mut context, plaintext, out);
        self.context = Some(context);
        self.length = in_window(plaintext.len().saturating_add(self.length.into()));
        self.longest = self.longest.max(self.length);
        self.history.push(plaintext, self.kept());
    }

    /// Returns the number of bytes of plaintext kept for a compressor that continues.
    ///
    /// A compressor works to find them again, in proportion to their number: the whole window would cost ten times as
    /// much as compressing a message of 1 KiB at level 1, for 4 % of its size. But a message often resembles the one
    /// before it, so as much is kept as the longest of late.
    fn kept(&self) -> usize {
        let longest = usize::from(self.longest.max(self.longest_before)).next_multiple_of(KEPT_PER_LEVEL);
        self.direction.kept().min(longest.max(usize::from(self.level.get()) * KEPT_PER_LEVEL))
    }

    fn resume(&self) -> Box<Compress> {
        let mut context = self.pool.take_compressor(self.kind());
        for part in self.history.parts() {
            context.set_dictionary(part).expect("raw deflate takes a dictionary between blocks");
        }
        context
    }

    fn give_back(&mut self) {
        if let Some(context) = self.context.take() {
            self.pool.give_compressor(self.kind(), context);
        }
        if std::mem::take(&mut self.keeps) {
            self.pool.keep_compressor_no_longer();
        }
    }

    fn kind(&self) -> ContextKind {
        ContextKind { level: self.level, window_bits: self.direction.window_bits }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("direction", &self.direction)
            .field("level", &self.level)
            .field("parked", &self.is_parked())
            .field("window_memory", &self.window_memory())
            .finish_non_exhaustive()
    }
}

/// Compresses `plaintext` up to the end of an empty stored block.
fn append(context: &mut Compress, mut plaintext: &[u8], out: &mut Vec<u8>) {
    loop {
        out.reserve((plaintext.len() + plaintext.len() / 8 + SPARE).min(STEP));
        let before = context.total_in();
        context
            .compress_vec(plaintext, out, FlushCompress::Sync)
            .expect("raw deflate fails only after its stream was finished");
        let taken = usize::try_from(context.total_in() - before).expect("at most what was given");
        plaintext = &plaintext[taken..];
        // A full buffer means that more output may be pending. (If none is, one more empty block follows, which is
        // harmless.)
        if plaintext.is_empty() && out.len() < out.capacity() {
            return;
        }
    }
}

/// The bytes of the window that are kept for each level.
const KEPT_PER_LEVEL: usize = 4096;

/// Returns a length, but at most that of the largest window (RFC 7692 §7.1.2).
fn in_window(length: usize) -> u16 {
    const LARGEST: u16 = 1 << 15;
    u16::try_from(length).unwrap_or(LARGEST).min(LARGEST)
}

/// The end of the empty stored block that a flush writes.
const BLOCK_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The space that a compressed message takes in addition to nine bits for each byte, plus 6 bytes, so that a flush
/// never fills the space exactly.
const SPARE: usize = 32;

/// The most that is reserved at once.
const STEP: usize = 64 * 1024;
