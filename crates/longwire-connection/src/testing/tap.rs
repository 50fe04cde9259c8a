//! Watching and steering one end of a link while somebody else owns the [`Pipe`](super::Pipe).

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use super::faults::{Faults, Kind};
use super::link::{Link, Side, Stall};

/// A handle on one end of a [`duplex`](super::duplex) that stays behind when the end is given away.
///
/// It shows what the end has written and how, and can stall, resume or break it. Cloning it is cheap, it may be used on
/// any thread, and it keeps its record when the end is dropped.
///
/// # Examples
///
/// ```
/// use longwire_connection::testing::duplex;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut client, _server) = duplex(64);
/// let tap = client.tap();
/// client.write_all(b"hello, ").await?;
/// client.write_all(b"world").await?;
/// drop(client);
///
/// assert_eq!(tap.written(), b"hello, world");
/// assert_eq!(tap.write_sizes(), [7, 5]);
/// assert_eq!(tap.counts().writes, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tap {
    pub(super) link: Arc<Link>,
    pub(super) side: Side,
}

/// How often an end was used, and for how many bytes, since it was made.
///
/// An [`Operation`](super::Operation) counts when it begins, however often it is polled until it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Reads, the one that waits for bytes among them.
    pub reads: u64,
    /// Writes, vectored or not. On a socket each would be at least one system call.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Shutdowns.
    pub shutdowns: u64,
    /// Calls of any of the four `poll` methods; more than operations where some were pending.
    pub polls: u64,
    /// Bytes this end has read.
    pub bytes_read: u64,
    /// Bytes this end has written, whether the peer has read them or not.
    pub bytes_written: u64,
}

impl Counts {
    /// Returns how many operations of any kind have begun: the numbers that
    /// [`Operation::Any`](super::Operation::Any) has reached run from 0 to one less.
    pub fn operations(&self) -> u64 {
        self.reads + self.writes + self.flushes + self.shutdowns
    }

    pub(super) fn began(&mut self, kind: Kind) {
        match kind {
            Kind::Read => self.reads += 1,
            Kind::Write => self.writes += 1,
            Kind::Flush => self.flushes += 1,
            Kind::Shutdown => self.shutdowns += 1,
        }
    }

    pub(super) fn moved(&mut self, kind: Kind, len: usize) {
        match kind {
            Kind::Read => self.bytes_read += len as u64,
            Kind::Write => self.bytes_written += len as u64,
            Kind::Flush | Kind::Shutdown => {}
        }
    }
}

impl Tap {
    /// Returns every byte this end has written so far, read by the peer or not.
    pub fn written(&self) -> Vec<u8> {
        self.link.with(|state, _| state.end(self.side).wire.recorded().to_vec())
    }

    /// Returns how many bytes each write has taken, in order.
    pub fn write_sizes(&self) -> Vec<usize> {
        self.link.with(|state, _| state.end(self.side).wire.write_sizes().to_vec())
    }

    /// Returns how many bytes this end has written that the peer has not read.
    pub fn unread(&self) -> usize {
        self.link.with(|state, _| state.end(self.side).wire.unread())
    }

    /// Returns what this end has done so far.
    pub fn counts(&self) -> Counts {
        self.link.with(|state, _| state.end(self.side).counts)
    }

    /// Returns whether this end's stream has ended: it was shut down, dropped, or cut by a broken pipe.
    pub fn is_finished(&self) -> bool {
        self.link.with(|state, _| state.end(self.side).wire.is_finished())
    }

    /// Returns whether the [`Pipe`](super::Pipe) was dropped.
    pub fn is_dropped(&self) -> bool {
        self.link.with(|state, _| state.end(self.side).is_gone())
    }

    /// Returns whether this end's reading or writing stands still.
    pub fn is_stalled(&self) -> bool {
        self.link.with(|state, _| {
            let end = state.end(self.side);
            end.reading == Stall::Stalled || end.writing == Stall::Stalled
        })
    }

    /// Lets everything this end does be pending until [`resume`](Self::resume), as if the cable were pulled.
    pub fn stall(&self) {
        self.stall_reads();
        self.stall_writes();
    }

    /// Lets this end's reads be pending until [`resume`](Self::resume), as with a peer that is silent.
    pub fn stall_reads(&self) {
        self.link.with(|state, _| state.end(self.side).reading = Stall::Stalled);
    }

    /// Lets this end's writes, flushes and shutdowns be pending until [`resume`](Self::resume), as with a peer that does
    /// not read.
    pub fn stall_writes(&self) {
        self.link.with(|state, _| state.end(self.side).writing = Stall::Stalled);
    }

    /// Ends a stall, whether this handle or the plan has made it, and wakes whoever waits.
    pub fn resume(&self) {
        self.link.with(|state, wakeups| {
            let end = state.end(self.side);
            end.reading = Stall::Running;
            end.writing = Stall::Running;
            end.wake_both(wakeups);
        });
    }

    /// Gives this end another plan, which counts from its next operation on.
    ///
    /// An operation that is pending keeps what the old plan had for it; a stall remains.
    pub fn set_faults(&self, faults: Faults) {
        self.link.with(|state, _| state.set_faults(self.side, faults));
    }

    /// Breaks the connection: from now on every operation of both ends fails with [`ErrorKind::ConnectionReset`].
    ///
    /// Bytes not yet read are lost. Stalls of both ends are over.
    pub fn reset(&self) {
        self.link.with(|state, wakeups| state.lose(self.side, ErrorKind::ConnectionReset, wakeups));
        self.resume();
        self.peer().resume();
    }

    /// Returns the handle on the other end.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self { link: Arc::clone(&self.link), side: self.side.other() }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("side", &self.side)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
