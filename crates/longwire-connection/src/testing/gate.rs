//! A transport whose writes and flushes are held back until a chosen poll.
//!
//! Owns the moment at which a transport becomes ready, and the one waker that it keeps for each direction. It is
//! for tests of wake-ups; for everything else, use [`super::duplex`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Creates a transport, and the handle that feeds, opens and watches it.
///
/// The transport keeps only the last waker for each direction, as [`AsyncRead`] and [`AsyncWrite`] allow: a task
/// that polls later displaces the task that waits. It never loses a wake-up: when it becomes ready, it wakes the
/// waker that it keeps at that moment.
///
/// Both gates are open at first: every write accepts all its bytes, and every flush succeeds.
///
/// # Examples
///
/// The gate opens right after the second write poll registers its waker and before that poll returns:
///
/// ```
/// use longwire_connection::testing::gated;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut io, gate) = gated();
/// gate.shut_writes();
/// gate.open_at_write_poll(2);
///
/// let writing = tokio::spawn(async move { io.write_all(b"hello").await });
/// tokio::task::yield_now().await;
/// assert_eq!((gate.write_polls(), gate.written()), (1, vec![]));
///
/// gate.wake_writer(); // spurious: nothing has changed
/// writing.await??;
/// assert_eq!((gate.write_polls(), gate.written()), (3, b"hello".to_vec()));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn gated() -> (Gated, Gate) {
    let gate = Gate { state: Arc::default() };
    (Gated { gate: gate.clone() }, gate)
}

/// The transport made by [`gated`].
pub struct Gated {
    gate: Gate,
}

/// A handle to a [`Gated`] transport that other code owns.
///
/// It is cheap to clone, may be used on any thread, and keeps its record after the transport is dropped.
#[derive(Clone)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Bytes that were fed but not read.
    unread: Vec<u8>,
    read_ended: bool,
    reader: Option<Waker>,
    written: Vec<u8>,
    /// The number of bytes in `written` that were flushed.
    flushed: usize,
    writes: Direction,
    flushes: Direction,
    shutdown_polls: u64,
    is_shut_down: bool,
    /// The waker of the last write, flush or shutdown poll that was pending.
    writer: Option<Waker>,
    is_dropped: bool,
}

/// One of the two gates.
#[derive(Default)]
struct Direction {
    polls: u64,
    /// The number of bytes that may still pass (for flushes, zero or nonzero); `None` if the gate is open.
    room: Option<usize>,
    opens_at: Option<u64>,
    wakes_at: Option<u64>,
}

impl Direction {
    fn is_shut(&self) -> bool {
        self.room == Some(0)
    }

    /// Acts on a poll that is about to return `Pending`. Returns whether the waker must be woken before it does.
    fn pended(&mut self) -> bool {
        let opens = self.opens_at == Some(self.polls);
        if opens {
            self.room = None;
        }
        opens || self.wakes_at == Some(self.polls)
    }
}

impl Gate {
    /// Makes bytes readable.
    pub fn feed(&self, bytes: impl AsRef<[u8]>) {
        self.wake_after(|state| {
            state.unread.extend_from_slice(bytes.as_ref());
            [state.reader.take(), None]
        });
    }

    /// Ends the stream that the transport reads, after the bytes that were fed.
    pub fn end_reads(&self) {
        self.wake_after(|state| {
            state.read_ended = true;
            [state.reader.take(), None]
        });
    }

    /// Makes writes and shutdowns pending until a gate is opened.
    pub fn shut_writes(&self) {
        self.with(|state| state.writes.room = Some(0));
    }

    /// Makes flushes and shutdowns pending until a gate is opened.
    ///
    /// A flush still succeeds if nothing was written since the last one.
    pub fn shut_flushes(&self) {
        self.with(|state| state.flushes.room = Some(0));
    }

    /// Opens both gates and wakes the task that waits.
    pub fn open(&self) {
        self.wake_after(|state| {
            state.writes.room = None;
            state.flushes.room = None;
            [state.writer.take(), None]
        });
    }

    /// Lets this many bytes pass. After that, writes are pending again.
    pub fn admit(&self, len: usize) {
        self.wake_after(|state| {
            state.writes.room = Some(state.writes.room.unwrap_or(0) + len);
            [state.writer.take(), None]
        });
    }

    /// Opens the gate for writes during the `n`-th write poll, counted from 1.
    ///
    /// The poll registers its waker, the gate opens, the waker is woken, and the poll returns `Pending`. This
    /// happens when a socket becomes writable on another thread at that moment. It has no effect on a poll that is
    /// ready.
    pub fn open_at_write_poll(&self, n: u64) {
        self.with(|state| state.writes.opens_at = Some(n));
    }

    /// Opens the gate for flushes during the `n`-th flush poll, as [`open_at_write_poll`](Self::open_at_write_poll)
    /// does for writes.
    pub fn open_at_flush_poll(&self, n: u64) {
        self.with(|state| state.flushes.opens_at = Some(n));
    }

    /// Wakes the task of the `n`-th write poll, counted from 1, although nothing has changed.
    pub fn wake_at_write_poll(&self, n: u64) {
        self.with(|state| state.writes.wakes_at = Some(n));
    }

    /// Wakes the task of the `n`-th flush poll, counted from 1, although nothing has changed.
    pub fn wake_at_flush_poll(&self, n: u64) {
        self.with(|state| state.flushes.wakes_at = Some(n));
    }

    /// Wakes the task that waits to write, flush or shut down, although nothing has changed.
    ///
    /// The transport keeps the waker, so a later change wakes it again.
    pub fn wake_writer(&self) {
        self.wake_after(|state| [state.writer.clone(), None]);
    }

    /// Wakes the task that waits to read, although nothing has changed. The transport keeps the waker.
    pub fn wake_reader(&self) {
        self.wake_after(|state| [state.reader.clone(), None]);
    }

    /// Returns the number of write polls so far, ready or not.
    pub fn write_polls(&self) -> u64 {
        self.with(|state| state.writes.polls)
    }

    /// Returns the number of flush polls so far, ready or not.
    pub fn flush_polls(&self) -> u64 {
        self.with(|state| state.flushes.polls)
    }

    /// Returns the number of shutdown polls so far, ready or not.
    pub fn shutdown_polls(&self) -> u64 {
        self.with(|state| state.shutdown_polls)
    }

    /// Returns every byte written so far.
    pub fn written(&self) -> Vec<u8> {
        self.with(|state| state.written.clone())
    }

    /// Returns the number of bytes written and flushed so far.
    pub fn flushed(&self) -> usize {
        self.with(|state| state.flushed)
    }

    /// Returns whether both gates are open.
    pub fn is_open(&self) -> bool {
        self.with(|state| state.writes.room.is_none() && state.flushes.room.is_none())
    }

    /// Returns whether the transport was shut down.
    pub fn is_shut_down(&self) -> bool {
        self.with(|state| state.is_shut_down)
    }

    /// Returns whether the transport was dropped.
    pub fn is_dropped(&self) -> bool {
        self.with(|state| state.is_dropped)
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `act`, then wakes after the lock is released: a waker may poll this transport at once, and dropping one
    /// may drop it.
    fn wake_after(&self, act: impl FnOnce(&mut State) -> [Option<Waker>; 2]) {
        self.with(act).into_iter().flatten().for_each(Waker::wake);
    }

    /// Runs one poll of the writing direction. If it is pending, its waker displaces the one that was kept.
    fn poll_writing<R>(
        &self,
        cx: &Context<'_>,
        act: impl FnOnce(&mut State) -> Result<R, Pended>,
    ) -> Poll<io::Result<R>> {
        let mut woken = None;
        let mut displaced = None;
        let polled = self.with(|state| match act(state) {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(pended) => {
                displaced = state.writer.replace(cx.waker().clone());
                woken = match pended {
                    Pended::Waits => None,
                    Pended::Woken => state.writer.clone(),
                };
                Poll::Pending
            }
        });
        drop(displaced);
        if let Some(waker) = woken {
            waker.wake();
        }
        polled
    }
}

/// The fate of the waker of a pending poll.
enum Pended {
    Waits,
    Woken,
}

impl Pended {
    fn at(direction: &mut Direction) -> Self {
        if direction.pended() { Self::Woken } else { Self::Waits }
    }
}

impl AsyncRead for Gated {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut displaced = None;
        let polled = self.gate.with(|state| {
            if state.unread.is_empty() && !state.read_ended {
                displaced = state.reader.replace(cx.waker().clone());
                return Poll::Pending;
            }
            let len = state.unread.len().min(buf.remaining());
            buf.put_slice(&state.unread[..len]);
            state.unread.drain(..len);
            Poll::Ready(Ok(()))
        });
        drop(displaced);
        polled
    }
}

impl AsyncWrite for Gated {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.gate.poll_writing(cx, |state| {
            state.writes.polls += 1;
            if state.writes.is_shut() {
                return Err(Pended::at(&mut state.writes));
            }
            let len = state.writes.room.map_or(buf.len(), |room| room.min(buf.len()));
            if let Some(room) = &mut state.writes.room {
                *room -= len;
            }
            state.written.extend_from_slice(&buf[..len]);
            Ok(len)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gate.poll_writing(cx, |state| {
            state.flushes.polls += 1;
            if state.flushes.is_shut() && state.flushed < state.written.len() {
                return Err(Pended::at(&mut state.flushes));
            }
            state.flushed = state.written.len();
            Ok(())
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gate.poll_writing(cx, |state| {
            state.shutdown_polls += 1;
            if state.writes.is_shut() || state.flushes.is_shut() {
                return Err(Pended::Waits);
            }
            state.flushed = state.written.len();
            state.is_shut_down = true;
            Ok(())
        })
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        let wakers = self.gate.with(|state| {
            state.is_dropped = true;
            [state.reader.take(), state.writer.take()]
        });
        drop(wakers);
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").field("gate", &self.gate).finish()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state| {
            f.debug_struct("Gate")
                .field("unread", &state.unread.len())
                .field("written", &state.written.len())
                .field("flushed", &state.flushed)
                .field("write_polls", &state.writes.polls)
                .field("flush_polls", &state.flushes.polls)
                .finish_non_exhaustive()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn bell() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell::default());
        (Arc::clone(&bell), Waker::from(bell))
    }

    fn rings(bell: &Bell) -> usize {
        bell.0.load(Ordering::Relaxed)
    }

    fn write(io: &mut Gated, bytes: &[u8], waker: &Waker) -> Poll<usize> {
        Pin::new(io).poll_write(&mut Context::from_waker(waker), bytes).map(Result::unwrap)
    }

    fn flush(io: &mut Gated, waker: &Waker) -> Poll<()> {
        Pin::new(io).poll_flush(&mut Context::from_waker(waker)).map(Result::unwrap)
    }

    #[test]
    fn only_the_last_waker_is_woken() {
        let (mut io, gate) = gated();
        gate.shut_writes();
        let ((first, first_waker), (last, last_waker)) = (bell(), bell());
        assert_eq!(write(&mut io, b"a", &first_waker), Poll::Pending);
        assert_eq!(write(&mut io, b"a", &last_waker), Poll::Pending);
        gate.open();
        assert_eq!((rings(&first), rings(&last)), (0, 1));
        assert_eq!(write(&mut io, b"a", &first_waker), Poll::Ready(1));
    }

    #[test]
    fn opens_during_the_chosen_poll_which_is_still_pending() {
        let (mut io, gate) = gated();
        gate.shut_writes();
        gate.open_at_write_poll(2);
        let ((first, first_waker), (second, second_waker)) = (bell(), bell());
        assert_eq!(write(&mut io, b"ab", &first_waker), Poll::Pending);
        assert_eq!(write(&mut io, b"ab", &second_waker), Poll::Pending);
        assert_eq!((rings(&first), rings(&second)), (0, 1));
        assert!(gate.is_open());
        assert_eq!(write(&mut io, b"ab", &first_waker), Poll::Ready(2));
        assert_eq!((gate.written(), gate.write_polls()), (b"ab".to_vec(), 3));
    }

    #[test]
    fn a_flush_waits_only_for_bytes() {
        let (mut io, gate) = gated();
        gate.shut_flushes();
        gate.open_at_flush_poll(3);
        let (bell, waker) = bell();
        assert_eq!(flush(&mut io, &waker), Poll::Ready(()));
        assert_eq!(write(&mut io, b"abc", &waker), Poll::Ready(3));
        assert_eq!(flush(&mut io, &waker), Poll::Pending);
        assert_eq!(gate.flushed(), 0);
        assert_eq!(flush(&mut io, &waker), Poll::Pending);
        assert_eq!(rings(&bell), 1);
        assert_eq!(flush(&mut io, &waker), Poll::Ready(()));
        assert_eq!((gate.flushed(), gate.flush_polls()), (3, 4));
    }

    #[test]
    fn a_spurious_wake_up_keeps_the_waker_and_changes_nothing() {
        let (mut io, gate) = gated();
        gate.shut_writes();
        gate.wake_at_write_poll(1);
        let (bell, waker) = bell();
        assert_eq!(write(&mut io, b"a", &waker), Poll::Pending);
        assert_eq!(rings(&bell), 1);
        gate.wake_writer();
        assert_eq!(rings(&bell), 2);
        assert_eq!(write(&mut io, b"a", &waker), Poll::Pending);
        assert_eq!(rings(&bell), 2);
        gate.open();
        assert_eq!(rings(&bell), 3);
    }

    #[test]
    fn a_number_of_bytes_is_admitted() {
        let (mut io, gate) = gated();
        gate.shut_writes();
        let (bell, waker) = bell();
        assert_eq!(write(&mut io, b"abc", &waker), Poll::Pending);
        gate.admit(2);
        assert_eq!(rings(&bell), 1);
        assert_eq!(write(&mut io, b"abc", &waker), Poll::Ready(2));
        assert_eq!(write(&mut io, b"c", &waker), Poll::Pending);
    }

    #[test]
    fn a_dropped_transport_keeps_no_waker() {
        let (mut io, gate) = gated();
        gate.shut_writes();
        let (bell, waker) = bell();
        assert_eq!(write(&mut io, b"a", &waker), Poll::Pending);
        let mut buf = [0];
        let mut buf = ReadBuf::new(&mut buf);
        assert!(Pin::new(&mut io).poll_read(&mut Context::from_waker(&waker), &mut buf).is_pending());
        drop((io, waker));
        assert!(gate.is_dropped());
        assert_eq!(Arc::strong_count(&bell), 1);
    }
}
