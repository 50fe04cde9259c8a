//! A test's plan of faults for one end, and the progress through it.
//!
//! Owns the numbering of operations and the choice of sizes. [`super::link`] owns the effect of a fault on the two
//! ends.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

/// A plan of faults for one end of a [`duplex`](super::duplex).
///
/// Without faults, an end accepts and yields as many bytes as it can. Operations and offsets are counted from zero,
/// starting when the plan is given to the end ([`Pipe::with_faults`](super::Pipe::with_faults),
/// [`Tap::set_faults`](super::Tap::set_faults)). Several faults may be combined; an operation with several is first
/// pending, then stalled, then failed.
///
/// # Examples
///
/// ```
/// use longwire_connection::testing::{Faults, duplex};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, server) = duplex(64);
/// let mut server = server.with_faults(Faults::new().pend_each().split_reads_at([2]));
///
/// client.write_all(b"hello").await?;
/// let mut buf = [0; 64];
/// assert_eq!(server.read(&mut buf).await?, 2);
/// assert_eq!(server.read(&mut buf).await?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a plan does nothing until an end is given it"]
pub struct Faults {
    pend_each: bool,
    hold_until_flush: bool,
    read_at_most: Option<usize>,
    write_at_most: Option<usize>,
    read_splits: BTreeSet<u64>,
    write_splits: BTreeSet<u64>,
    latency: Option<Duration>,
    random: Option<u64>,
    scheduled: Vec<(Operation, Action)>,
}

/// One operation of an end, by its number from zero.
///
/// An operation begins with a call of `poll_read`, `poll_write` (vectored or not), `poll_flush` or `poll_shutdown`,
/// and lasts until such a call is ready: a call that repeats a pending one is not counted again. Reads into and
/// writes from an empty buffer do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The k-th operation of any kind.
    Any(u64),
    /// The k-th read.
    Read(u64),
    /// The k-th write, vectored or not.
    Write(u64),
    /// The k-th flush.
    Flush(u64),
    /// The k-th shutdown.
    Shutdown(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pend,
    Stall,
    Eof,
    WriteZero,
    Fail(ErrorKind),
}

impl Faults {
    /// Creates a plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits every read to at most `len` bytes.
    ///
    /// # Panics
    ///
    /// If `len` is 0, which a reader would interpret as the end of the stream.
    pub fn read_at_most(mut self, len: usize) -> Self {
        assert!(len > 0, "a read of no bytes means the end of the stream");
        self.read_at_most = Some(len);
        self
    }

    /// Ends reads at these offsets of the stream that this end reads, so that no read contains bytes from both
    /// sides of one.
    pub fn split_reads_at(mut self, offsets: impl IntoIterator<Item = u64>) -> Self {
        self.read_splits.extend(offsets);
        self
    }

    /// Limits every write to at most `len` bytes.
    ///
    /// # Panics
    ///
    /// If `len` is 0; [`write_zero_at`](Self::write_zero_at) makes a single write accept nothing.
    pub fn write_at_most(mut self, len: usize) -> Self {
        assert!(len > 0, "a writer may give up after a write of no bytes");
        self.write_at_most = Some(len);
        self
    }

    /// Ends writes at these offsets of the stream that this end writes.
    pub fn split_writes_at(mut self, offsets: impl IntoIterator<Item = u64>) -> Self {
        self.write_splits.extend(offsets);
        self
    }

    /// Makes every operation pending once before it continues. The task is woken at once.
    pub fn pend_each(mut self) -> Self {
        self.pend_each = true;
        self
    }

    /// Makes this operation pending once before it continues. The task is woken at once.
    pub fn pend_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Pend)
    }

    /// Makes this operation pending until [`Tap::resume`](super::Tap::resume).
    ///
    /// If it is a read, all reads of this end are stalled, as with a peer that is silent; otherwise all writes,
    /// flushes and shutdowns, as with a peer that does not read.
    pub fn stall_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Stall)
    }

    /// Ends the stream that this end reads: this read and all later ones yield no bytes.
    ///
    /// The peer's writes fail with [`ErrorKind::BrokenPipe`] from then on. If the operation is not a read, later
    /// reads see the end.
    pub fn eof_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Eof)
    }

    /// Makes the k-th write succeed without accepting any bytes.
    pub fn write_zero_at(self, k: u64) -> Self {
        self.schedule(Operation::Write(k), Action::WriteZero)
    }

    /// Makes this operation fail with an error of this kind.
    ///
    /// The consequences depend on the kind, so that the peer of a failing end always finds out:
    ///
    /// - [`ErrorKind::Interrupted`] and [`ErrorKind::WouldBlock`]: nothing is lost, and the next operation works.
    /// - [`ErrorKind::BrokenPipe`]: later writes of this end fail in the same way, and the peer reads the end of
    ///   the stream; the other direction still works.
    /// - All others: the connection is gone. Each operation of this end fails in the same way, each one of the
    ///   peer with [`ErrorKind::ConnectionReset`], and bytes not yet read are lost.
    pub fn fail_at(self, operation: Operation, kind: ErrorKind) -> Self {
        self.schedule(operation, Action::Fail(kind))
    }

    /// Hides the bytes that this end writes from the peer until it flushes or shuts down, or the capacity is used
    /// up.
    ///
    /// TLS streams and buffered writers behave like this: after a forgotten flush, the peer waits forever, and
    /// bytes not flushed when the end is dropped are lost.
    pub fn hold_until_flush(mut self) -> Self {
        self.hold_until_flush = true;
        self
    }

    /// Delays the bytes that this end writes, and its FIN, on their way to the peer.
    ///
    /// The clock is tokio's, so a test with a paused clock does not wait. Bytes in flight use up capacity. The
    /// order is kept when the latency changes.
    ///
    /// # Panics
    ///
    /// The peer's reads panic outside of a tokio runtime with its timer enabled.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// Adds a mixture of harmless faults drawn from `seed`: operations that are pending once, short reads and writes.
    ///
    /// About a quarter of the operations are pending once. About three quarters of the reads and writes are
    /// limited: to one byte, up to 16 bytes or up to 1024 bytes. The same seed and operations give the same faults.
    pub fn random(mut self, seed: u64) -> Self {
        self.random = Some(seed);
        self
    }

    fn schedule(mut self, operation: Operation, action: Action) -> Self {
        self.scheduled.push((operation, action));
        self
    }
}

/// The kinds of operations; the discriminant indexes arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Shutdown,
}

impl Kind {
    pub(super) const COUNT: usize = 4;

    pub(super) fn is_read(self) -> bool {
        self == Self::Read
    }
}

impl Operation {
    fn is(self, kind: Kind, of_kind: u64, of_all: u64) -> bool {
        match self {
            Self::Any(k) => k == of_all,
            Self::Read(k) => kind == Kind::Read && k == of_kind,
            Self::Write(k) => kind == Kind::Write && k == of_kind,
            Self::Flush(k) => kind == Kind::Flush && k == of_kind,
            Self::Shutdown(k) => kind == Kind::Shutdown && k == of_kind,
        }
    }
}

/// An operation that has begun and is not ready yet. Its faults are drawn once, however often it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) pend: bool,
    pub(super) stall: bool,
    pub(super) eof: bool,
    pub(super) fail: Option<ErrorKind>,
    /// The maximum number of bytes it may move. 0 only for a write that must accept nothing.
    pub(super) limit: usize,
}

/// A [`Faults`] plan in progress.
#[derive(Debug)]
pub(super) struct Plan {
    faults: Faults,
    random: Option<Random>,
    begun: [u64; Kind::COUNT],
    bytes_read: u64,
    bytes_written: u64,
}

impl Plan {
    pub(super) fn new(faults: Faults) -> Self {
        let random = faults.random.map(Random::new);
        Self { faults, random, begun: [0; Kind::COUNT], bytes_read: 0, bytes_written: 0 }
    }

    pub(super) fn begin(&mut self, kind: Kind) -> Begun {
        let of_all = self.begun.iter().sum();
        let of_kind = self.begun[kind as usize];
        self.begun[kind as usize] += 1;

        let mut begun = Begun {
            pend: self.faults.pend_each,
            stall: false,
            eof: false,
            fail: None,
            limit: self.limit(kind),
        };
        if let Some(random) = &mut self.random {
            begun.pend |= random.below(4) == 0;
            begun.limit = begun.limit.min(random.length());
        }
        for (operation, action) in &self.faults.scheduled {
            if operation.is(kind, of_kind, of_all) {
                match *action {
                    Action::Pend => begun.pend = true,
                    Action::Stall => begun.stall = true,
                    Action::Eof => begun.eof = true,
                    Action::WriteZero => begun.limit = 0,
                    Action::Fail(kind) => begun.fail = Some(kind),
                }
            }
        }
        begun
    }

    fn limit(&self, kind: Kind) -> usize {
        let (at_most, splits, offset) = match kind {
            Kind::Read => (self.faults.read_at_most, &self.faults.read_splits, self.bytes_read),
            Kind::Write => (self.faults.write_at_most, &self.faults.write_splits, self.bytes_written),
            Kind::Flush | Kind::Shutdown => return usize::MAX,
        };
        let to_split = splits.range(offset + 1..).next().map(|split| split - offset);
        let to_split = to_split.and_then(|len| usize::try_from(len).ok());
        at_most.unwrap_or(usize::MAX).min(to_split.unwrap_or(usize::MAX))
    }

    pub(super) fn moved(&mut self, kind: Kind, len: usize) {
        match kind {
            Kind::Read => self.bytes_read += len as u64,
            Kind::Write => self.bytes_written += len as u64,
            Kind::Flush | Kind::Shutdown => {}
        }
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.faults.latency
    }

    pub(super) fn holds_until_flush(&self) -> bool {
        self.faults.hold_until_flush
    }
}

/// Marsaglia's xorshift64 followed by a multiplication: enough to vary a test, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Spreads small seeds over all bits. The state must not be 0, which xorshift never leaves.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The low bits are the weakest. The bias of the remainder is far below what a test can detect.
        (self.next() >> 32) % bound
    }

    fn length(&mut self) -> usize {
        let bound = match self.below(4) {
            0 => 1,
            1 => 16,
            2 => 1024,
            _ => return usize::MAX,
        };
        usize::try_from(1 + self.below(bound)).unwrap_or(1)
    }
}
