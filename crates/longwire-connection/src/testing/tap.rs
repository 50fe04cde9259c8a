//! Watching and controlling one end of a link while other code owns the [`Pipe`](super::Pipe).

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use super::faults::{Faults, Kind};
use super::link::{Link, Side, Stall};

/// A handle to one end of a [`duplex`](super::duplex), kept when the end is moved elsewhere.
///
/// It shows the bytes that the end has written and how it wrote them, and can stall, resume or break the end. It is
/// cheap to clone, can be used from any thread, and keeps its record after the end is dropped.
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

/// Counts of an end's operations and bytes since it was created.
///
/// An [`Operation`](super::Operation) counts once, when it begins, however often it is polled until it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Reads, including one that waits for bytes.
    pub reads: u64,
    /// Writes, vectored or not. On a socket, each would be at least one system call.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Shutdowns.
    pub shutdowns: u64,
    /// Calls of any of the four `poll` methods. More than the operations if some were pending.
    pub polls: u64,
    /// Bytes that this end has read.
    pub bytes_read: u64,
    /// Bytes that this end has written, whether the peer has read them or not.
    pub bytes_written: u64,
}

impl Counts {
    /// Returns the number of operations of any kind that have begun. The numbers that
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
    /// Returns every byte that this end has written so far, read by the peer or not.
    pub fn written(&self) -> Vec<u8> {
        self.link.with(|state, _| state.end(self.side).wire.recorded().to_vec())
    }

    /// Returns the number of bytes that each write has accepted, in order.
    pub fn write_sizes(&self) -> Vec<usize> {
        self.link.with(|state, _| state.end(self.side).wire.write_sizes().to_vec())
    }

    /// Returns the number of bytes that this end has written and the peer has not read.
    pub fn unread(&self) -> usize {
        self.link.with(|state, _| state.end(self.side).wire.unread())
    }

    /// Returns the counts of this end so far.
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

    /// Returns whether this end's reading or writing is stalled.
    pub fn is_stalled(&self) -> bool {
        self.link.with(|state, _| {
            let end = state.end(self.side);
            end.reading == Stall::Stalled || end.writing == Stall::Stalled
        })
    }

    /// Makes all operations of this end pending until [`resume`](Self::resume), as if the cable were pulled.
    pub fn stall(&self) {
        self.stall_reads();
        self.stall_writes();
    }

    /// Makes this end's reads pending until [`resume`](Self::resume), as with a peer that is silent.
    pub fn stall_reads(&self) {
        self.link.with(|state, _| state.end(self.side).reading = Stall::Stalled);
    }

    /// Makes this end's writes, flushes and shutdowns pending until [`resume`](Self::resume), as with a peer that
    /// does not read.
    pub fn stall_writes(&self) {
        self.link.with(|state, _| state.end(self.side).writing = Stall::Stalled);
    }

    /// Ends a stall, whether this handle or the plan caused it, and wakes the waiting tasks.
    pub fn resume(&self) {
        self.link.with(|state, wakeups| {
            let end = state.end(self.side);
            end.reading = Stall::Running;
            end.writing = Stall::Running;
            end.wake_both(wakeups);
        });
    }

    /// Gives this end another plan, which counts from the next operation.
    ///
    /// An operation that is pending keeps the old plan's decision, and a stall remains.
    pub fn set_faults(&self, faults: Faults) {
        self.link.with(|state, _| state.set_faults(self.side, faults));
    }

    /// Breaks the connection: from now on, every operation of both ends fails with [`ErrorKind::ConnectionReset`].
    ///
    /// Bytes not yet read are lost. Stalls of both ends are ended.
    pub fn reset(&self) {
        self.link.with(|state, wakeups| state.lose(self.side, ErrorKind::ConnectionReset, wakeups));
        self.resume();
        self.peer().resume();
    }

    /// Returns a handle to the other end.
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
