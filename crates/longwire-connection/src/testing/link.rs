//! The state that two connected ends share: two wires, two fault plans, and the waiting tasks.
//!
//! Owns every rule about the effect of one end's operation on the other, without tokio's traits, and without a lock
//! held while a task is woken.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::faults::{Begun, Faults, Kind, Plan};
use super::tap::Counts;
use super::wire::{Readable, Wire};

#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
}

/// The two ends. For the holder of a [`Side`], that end is `own` and the other is `peer`.
#[derive(Debug)]
pub(super) struct State {
    ends: [End; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    First,
    Second,
}

#[derive(Debug)]
pub(super) struct End {
    /// The bytes that this end writes and the peer reads.
    pub(super) wire: Wire,
    pub(super) counts: Counts,
    pub(super) reading: Stall,
    pub(super) writing: Stall,
    pub(super) on_drop: OnDrop,
    pub(super) vectored: Vectored,
    input: Input,
    /// The kind of error that every operation of this end returns, once the connection is lost.
    lost: Option<ErrorKind>,
    plan: Plan,
    /// The operations that have begun and are not ready, by [`Kind`].
    begun: [Option<Begun>; Kind::COUNT],
    read_waker: Option<Waker>,
    write_waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    Running,
    Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDrop {
    Finish,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectored {
    Supported,
    Unsupported,
}

/// The state of an end's input: whether it still accepts bytes from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// A fault ended the stream early.
    Cut,
    /// The end was dropped.
    Gone,
}

/// Wakers to wake or drop once the lock is released. Either can run code of the waker's task, which may drop a pipe
/// of this same link.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    wake: Vec<Waker>,
    retired: Vec<Waker>,
}

/// The outcome of one attempt to read.
pub(super) enum ReadAttempt {
    Done(io::Result<()>),
    /// The task will be woken.
    Wait,
    /// The task will be woken when something changes, but must set its own timer for this time.
    WaitUntil(Instant),
}

impl Link {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(State { ends: [End::new(capacity), End::new(capacity)] }) }
    }

    /// Runs `f` under the lock, then wakes the tasks that `f` has added to the wake-ups.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State, &mut Wakeups) -> R) -> R {
        let mut wakeups = Wakeups::default();
        let result = {
            // No user code runs under the lock, so a poisoned state is consistent.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            f(&mut state, &mut wakeups)
        };
        wakeups.run();
        result
    }
}

impl State {
    pub(super) fn end(&mut self, side: Side) -> &mut End {
        self.pair(side).0
    }

    fn pair(&mut self, side: Side) -> (&mut End, &mut End) {
        let [first, second] = &mut self.ends;
        match side {
            Side::First => (first, second),
            Side::Second => (second, first),
        }
    }

    /// Continues a read that [`enter`](Self::enter) has let through.
    pub(super) fn read(
        &mut self,
        side: Side,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
        wakeups: &mut Wakeups,
    ) -> ReadAttempt {
        let begun = match self.enter(side, Kind::Read, cx, wakeups) {
            Poll::Ready(Ok(begun)) => begun,
            Poll::Ready(Err(error)) => return ReadAttempt::Done(Err(error)),
            Poll::Pending => return ReadAttempt::Wait,
        };
        let (own, peer) = self.pair(side);
        if own.input == Input::Cut {
            own.finish(Kind::Read, 0);
            return ReadAttempt::Done(Ok(()));
        }
        match peer.wire.readable() {
            Readable::Bytes(bytes) => {
                let len = bytes.len().min(buf.remaining()).min(begun.limit);
                buf.put_slice(&bytes[..len]);
                peer.wire.consume(len);
                own.finish(Kind::Read, len);
                wakeups.wake(&mut peer.write_waker);
                ReadAttempt::Done(Ok(()))
            }
            Readable::End => {
                own.finish(Kind::Read, 0);
                ReadAttempt::Done(Ok(()))
            }
            Readable::At(at) => {
                wakeups.register(&mut own.read_waker, cx);
                ReadAttempt::WaitUntil(at)
            }
            Readable::Nothing => {
                wakeups.register(&mut own.read_waker, cx);
                ReadAttempt::Wait
            }
        }
    }

    pub(super) fn write(
        &mut self,
        side: Side,
        cx: &Context<'_>,
        parts: &[&[u8]],
        wakeups: &mut Wakeups,
    ) -> Poll<io::Result<usize>> {
        let begun = match self.enter(side, Kind::Write, cx, wakeups) {
            Poll::Ready(Ok(begun)) => begun,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let (own, peer) = self.pair(side);
        if own.wire.is_finished() || peer.input != Input::Open {
            own.finish(Kind::Write, 0);
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let offered = parts.iter().map(|part| part.len()).sum::<usize>().min(begun.limit);
        let len = offered.min(own.wire.space());
        let blocked = len == 0 && offered > 0;
        if len > 0 {
            own.wire.write(parts, len);
        }
        if (blocked || !own.plan.holds_until_flush()) && own.wire.release(own.plan.latency()) {
            wakeups.wake(&mut peer.read_waker);
        }
        if blocked {
            wakeups.register(&mut own.write_waker, cx);
            return Poll::Pending;
        }
        own.finish(Kind::Write, len);
        Poll::Ready(Ok(len))
    }

    pub(super) fn flush(
        &mut self,
        side: Side,
        cx: &Context<'_>,
        wakeups: &mut Wakeups,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = std::task::ready!(self.enter(side, Kind::Flush, cx, wakeups)) {
            return Poll::Ready(Err(error));
        }
        let (own, peer) = self.pair(side);
        if !own.wire.is_finished() && own.wire.release(own.plan.latency()) {
            wakeups.wake(&mut peer.read_waker);
        }
        own.finish(Kind::Flush, 0);
        Poll::Ready(Ok(()))
    }

    pub(super) fn shutdown(
        &mut self,
        side: Side,
        cx: &Context<'_>,
        wakeups: &mut Wakeups,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = std::task::ready!(self.enter(side, Kind::Shutdown, cx, wakeups)) {
            return Poll::Ready(Err(error));
        }
        let (own, peer) = self.pair(side);
        if !own.wire.is_finished() {
            own.wire.release(own.plan.latency());
            own.wire.finish(own.plan.latency());
            wakeups.wake(&mut peer.read_waker);
        }
        own.finish(Kind::Shutdown, 0);
        Poll::Ready(Ok(()))
    }

    /// Begins an operation unless it has already begun, and returns the plan's decision for it.
    fn enter(
        &mut self,
        side: Side,
        kind: Kind,
        cx: &Context<'_>,
        wakeups: &mut Wakeups,
    ) -> Poll<io::Result<Begun>> {
        let (own, peer) = self.pair(side);
        own.counts.polls += 1;
        let mut begun = own.begun[kind as usize].unwrap_or_else(|| {
            own.counts.began(kind);
            own.plan.begin(kind)
        });
        if begun.pend {
            begun.pend = false;
            own.begun[kind as usize] = Some(begun);
            wakeups.wake.push(cx.waker().clone());
            return Poll::Pending;
        }
        if begun.stall {
            begun.stall = false;
            *own.stall_of(kind) = Stall::Stalled;
        }
        own.begun[kind as usize] = Some(begun);
        if *own.stall_of(kind) == Stall::Stalled {
            wakeups.register(own.waker_of(kind), cx);
            return Poll::Pending;
        }
        if begun.eof && own.input == Input::Open {
            own.input = Input::Cut;
            wakeups.wake(&mut own.read_waker);
            wakeups.wake(&mut peer.write_waker);
        }
        let error = begun.fail.or(own.lost);
        if let Some(error) = error {
            own.finish(kind, 0);
            self.fail(side, error, wakeups);
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(begun))
    }

    fn fail(&mut self, side: Side, kind: ErrorKind, wakeups: &mut Wakeups) {
        match kind {
            ErrorKind::Interrupted | ErrorKind::WouldBlock => {}
            ErrorKind::BrokenPipe => {
                let (own, peer) = self.pair(side);
                own.wire.finish(own.plan.latency());
                wakeups.wake(&mut own.write_waker);
                wakeups.wake(&mut peer.read_waker);
            }
            kind => self.lose(side, kind, wakeups),
        }
    }

    /// Breaks the connection for both ends. `kind` is the kind of error that the end at `side` sees.
    pub(super) fn lose(&mut self, side: Side, kind: ErrorKind, wakeups: &mut Wakeups) {
        let (own, peer) = self.pair(side);
        own.lost.get_or_insert(kind);
        peer.lost.get_or_insert(ErrorKind::ConnectionReset);
        for end in &mut self.ends {
            end.wake_both(wakeups);
        }
    }

    pub(super) fn set_faults(&mut self, side: Side, faults: Faults) {
        self.end(side).plan = Plan::new(faults);
    }

    pub(super) fn drop_end(&mut self, side: Side, wakeups: &mut Wakeups) {
        let (own, peer) = self.pair(side);
        own.input = Input::Gone;
        wakeups.retired.extend(own.read_waker.take());
        wakeups.retired.extend(own.write_waker.take());
        match own.on_drop {
            OnDrop::Finish => own.wire.finish(own.plan.latency()),
            OnDrop::Reset => {
                peer.lost.get_or_insert(ErrorKind::ConnectionReset);
            }
        }
        peer.wake_both(wakeups);
    }
}

impl End {
    fn new(capacity: usize) -> Self {
        Self {
            wire: Wire::new(capacity),
            counts: Counts::default(),
            reading: Stall::Running,
            writing: Stall::Running,
            on_drop: OnDrop::Finish,
            vectored: Vectored::Supported,
            input: Input::Open,
            lost: None,
            plan: Plan::new(Faults::new()),
            begun: [None; Kind::COUNT],
            read_waker: None,
            write_waker: None,
        }
    }

    fn finish(&mut self, kind: Kind, len: usize) {
        self.begun[kind as usize] = None;
        self.plan.moved(kind, len);
        self.counts.moved(kind, len);
    }

    fn stall_of(&mut self, kind: Kind) -> &mut Stall {
        if kind.is_read() { &mut self.reading } else { &mut self.writing }
    }

    fn waker_of(&mut self, kind: Kind) -> &mut Option<Waker> {
        if kind.is_read() { &mut self.read_waker } else { &mut self.write_waker }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.input == Input::Gone
    }

    pub(super) fn wake_both(&mut self, wakeups: &mut Wakeups) {
        wakeups.wake(&mut self.read_waker);
        wakeups.wake(&mut self.write_waker);
    }
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl Wakeups {
    fn wake(&mut self, slot: &mut Option<Waker>) {
        self.wake.extend(slot.take());
    }

    /// Registers the task of `cx`, replacing any task that waited before (as `AsyncRead` requires).
    fn register(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.retired.extend(slot.replace(cx.waker().clone()));
        }
    }

    fn run(self) {
        for waker in self.wake {
            waker.wake();
        }
        drop(self.retired);
    }
}
