//! What shall go wrong at one end, and when: the plan a test writes, and the count of how far it has come.
//!
//! Owns the numbering of operations and the choice of sizes. What a fault does to the two ends is [`super::link`]'s.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

/// A plan of faults for one end of a [`duplex`](super::duplex).
///
/// Without any fault an end takes and gives as many bytes as it can. Operations and offsets are counted from the moment
/// the plan is given to the end ([`Pipe::with_faults`](super::Pipe::with_faults),
/// [`Tap::set_faults`](super::Tap::set_faults)), both from zero. Several faults may be combined; where they meet at one
/// operation, it is first pending, then stalled, then failed.
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
/// An operation begins with a call of `poll_read`, `poll_write` (vectored or not), `poll_flush` or `poll_shutdown`, and
/// goes on until such a call is ready: a call that repeats one which was pending is not counted again. Reads into and
/// writes from an empty buffer do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The k-th operation, whatever it is.
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

    /// Lets every read yield at most `len` bytes.
    ///
    /// # Panics
    ///
    /// If `len` is 0, which a reader would take for the end of the stream.
    pub fn read_at_most(mut self, len: usize) -> Self {
        assert!(len > 0, "a read of no bytes means the end of the stream");
        self.read_at_most = Some(len);
        self
    }

    /// Ends reads at these offsets of the stream that this end reads, so that no read contains bytes of both sides.
    pub fn split_reads_at(mut self, offsets: impl IntoIterator<Item = u64>) -> Self {
        self.read_splits.extend(offsets);
        self
    }

    /// Lets every write take at most `len` bytes.
    ///
    /// # Panics
    ///
    /// If `len` is 0; [`write_zero_at`](Self::write_zero_at) lets one write do that.
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

    /// Lets every operation be pending once, with the task woken at once, before it goes on.
    pub fn pend_each(mut self) -> Self {
        self.pend_each = true;
        self
    }

    /// Lets this operation be pending once, with the task woken at once, before it goes on.
    pub fn pend_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Pend)
    }

    /// Lets this operation be pending until [`Tap::resume`](super::Tap::resume).
    ///
    /// Where it is a read, all reading of this end stands still, as with a peer that is silent; otherwise all writing,
    /// flushing and shutting down, as with a peer that does not read.
    pub fn stall_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Stall)
    }

    /// Ends the stream that this end reads: this read and all after it yield no bytes.
    ///
    /// The peer's writes fail with [`ErrorKind::BrokenPipe`] from then on. Where the operation is not a read, the reads
    /// behind it see the end.
    pub fn eof_at(self, operation: Operation) -> Self {
        self.schedule(operation, Action::Eof)
    }

    /// Lets the k-th write succeed with no bytes taken.
    pub fn write_zero_at(self, k: u64) -> Self {
        self.schedule(Operation::Write(k), Action::WriteZero)
    }

    /// Lets this operation fail with an error of this kind.
    ///
    /// What follows depends on the kind, so that the peer of an end that fails always finds out:
    /// - [`ErrorKind::Interrupted`] and [`ErrorKind::WouldBlock`]: nothing is lost, the next operation works.
    /// - [`ErrorKind::BrokenPipe`]: later writes of this end fail likewise and the peer reads the end of the stream;
    ///   the other direction still works.
    /// - All others: the connection is gone. Each operation of this end fails likewise, those of the peer with
    ///   [`ErrorKind::ConnectionReset`], and bytes not yet read are lost.
    pub fn fail_at(self, operation: Operation, kind: ErrorKind) -> Self {
        self.schedule(operation, Action::Fail(kind))
    }

    /// Hides what this end writes from the peer until it flushes or shuts down, or the capacity is used up.
    ///
    /// This is how TLS streams and buffered writers behave: a forgotten flush becomes a peer that waits for ever, and
    /// what was not flushed when the end is dropped is lost.
    pub fn hold_until_flush(mut self) -> Self {
        self.hold_until_flush = true;
        self
    }

    /// Delays what this end writes, and its FIN, on the way to the peer.
    ///
    /// Time is tokio's, so a test whose clock is paused does not wait. Bytes on their way use up capacity. The order is
    /// kept when the latency changes.
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
    /// About a quarter of the operations is pending once, and about three quarters of the reads and writes are limited,
    /// to one byte, up to 16 or up to 1024 bytes. The same seed and operations give the same faults.
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

/// An operation that has begun and is not ready yet. Its fate is drawn once, however often it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) pend: bool,
    pub(super) stall: bool,
    pub(super) eof: bool,
    pub(super) fail: Option<ErrorKind>,
    /// The most bytes it may move; 0 only for a write that shall take nothing.
    pub(super) limit: usize,
}

/// A [`Faults`] at work.
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

/// Marsaglia's xorshift64 with a multiplication behind it: enough to vary a test, and the same on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Spreads small seeds over all bits; the state must not be 0, from where xorshift never leaves.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // The low bits are the weakest; the bias of the remainder is far below what a test can see.
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
