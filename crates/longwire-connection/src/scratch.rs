//! Buffers that a thread lends to its connections, so that a connection that waits holds none.
//!
//! Owns the thread's spare buffers, and the bytes that a connection has read but not decoded. All of them are
//! initialized memory, and a slice shows only bytes that were read into it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::ReadBuf;

use crate::sending::cork;

/// The maximum number of bytes read at once. Two messages of 64 KiB arrive in one call, with their headers; a buffer
/// four times this size would only copy more of incomplete messages.
const READ_SIZE: usize = 132 * 1024;

/// The maximum number of undecoded bytes that are moved to a buffer of exactly their size, so that a connection
/// whose application is slow does not keep a whole read buffer for them.
const KEEP_FROM: usize = 16 * 1024;

/// After this many rests in a row that a handler took within one turn, it is expected to do so with the next.
const PROMPT: u8 = 4;

/// Instead of a number of rests: none stays in the thread's buffer any more.
const NEVER: u8 = u8::MAX;

/// The number of read buffers in the process up to which connections may keep one beyond a poll for a small rest as
/// well: at most 8.25 MiB. Each thread has one of them.
const MANY: usize = 64;

/// The number of read buffers in the process. It changes only if a thread gets its first one, or needs another
/// because a connection keeps one.
static READ_BUFFERS: Counter = Counter(AtomicUsize::new(0));

/// A counter that shares its cache line with nothing that is changed more often.
#[repr(align(64))]
struct Counter(AtomicUsize);

/// The maximum capacity of a write buffer that is kept.
const WRITE_SIZE: usize = 256 * 1024;

/// The maximum capacity of a buffer that is kept as a short one.
const SMALL_SIZE: usize = 4 * 1024;

/// The maximum memory of the short buffers that a thread keeps.
const SMALL_BYTES: usize = 512 * 1024;

/// The number of large payloads that are freed before one is kept. Common allocators map a region for each of them,
/// which is slow to copy to and from, until they have seen such sizes come and go.
const LEARNING: u8 = 2;

// One of each kind is enough: they are lent for the duration of a poll, and a thread polls one connection at a
// time. A second is created only while a connection keeps one, because its application is slow or because a task that
// polls several connections has taken a part of what it read, and is then dropped.
thread_local! {
    static READ: ReadSpare = const { ReadSpare(Cell::new(None)) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The memory of a large payload that was dropped.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The number of such payloads given back, up to [`LEARNING`].
    static SPARED: Cell<u8> = const { Cell::new(0) };
    static SMALL: RefCell<Small> = const { RefCell::new(Small { bufs: Vec::new(), bytes: 0 }) };
}

/// Short write buffers. A publisher fills one for each member before it writes to any of them, and allocators are slow
/// for so many at once.
struct Small {
    bufs: Vec<Vec<u8>>,
    /// The memory of them all.
    bytes: usize,
}

/// Lends the memory that the thread keeps for a large payload. `lend` may take it, or leave some there.
#[inline]
pub(crate) fn with_spare<R>(lend: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut spare = SPARE.try_with(Cell::take).unwrap_or_default();
    let had_none = spare.capacity() == 0;
    let result = lend(&mut spare);
    let _ = SPARE.try_with(|place| {
        if had_none && spare.capacity() > 0 && SPARED.get() < LEARNING {
            SPARED.set(SPARED.get() + 1);
        } else {
            place.set(spare);
        }
    });
    result
}

/// Takes an empty buffer in which to gather frames.
#[inline]
pub(crate) fn take_write_buffer() -> Vec<u8> {
    // A thread that is exiting has no spare buffers.
    WRITE.try_with(Cell::take).unwrap_or_default()
}

/// Takes an empty buffer for a few short frames that are written later, at the end of a turn.
#[inline]
pub(crate) fn take_small_buffer() -> Vec<u8> {
    SMALL.try_with(|small| small.borrow_mut().take()).unwrap_or_default()
}

impl Small {
    #[inline]
    fn take(&mut self) -> Vec<u8> {
        let Some(buf) = self.bufs.pop() else { return Vec::new() };
        self.bytes -= size_of::<Vec<u8>>() + buf.capacity();
        buf
    }

    #[inline]
    fn give(&mut self, buf: Vec<u8>) {
        let bytes = self.bytes + size_of::<Vec<u8>>() + buf.capacity();
        if bytes <= SMALL_BYTES {
            self.bytes = bytes;
            self.bufs.push(buf);
        }
    }
}

/// Gives a buffer back.
#[inline]
pub(crate) fn give_write_buffer(buf: Vec<u8>) {
    if buf.capacity() <= WRITE_SIZE {
        let _ = WRITE.try_with(|spare| {
            let other = spare.replace(buf);
            if other.capacity() > 0 {
                let buf = spare.take();
                spare.set(keep_shorter(other, buf));
            }
        });
    }
}

/// Keeps the shorter of two buffers, if it is short, and returns the longer one.
#[inline(never)]
fn keep_shorter(mut one: Vec<u8>, mut other: Vec<u8>) -> Vec<u8> {
    if one.capacity() < other.capacity() {
        std::mem::swap(&mut one, &mut other);
    }
    if other.capacity() <= SMALL_SIZE {
        let _ = SMALL.try_with(|small| small.borrow_mut().give(other));
    }
    one
}

/// The read buffer of a thread, while no connection has it.
struct ReadSpare(Cell<Option<Box<[u8]>>>);

impl Drop for ReadSpare {
    fn drop(&mut self) {
        if let Some(buf) = self.0.take() {
            drop_read_buffer(buf);
        }
    }
}

#[inline]
fn take_read_buffer() -> Box<[u8]> {
    READ.try_with(|spare| spare.0.take()).ok().flatten().unwrap_or_else(new_read_buffer)
}

#[cold]
fn new_read_buffer() -> Box<[u8]> {
    READ_BUFFERS.0.fetch_add(1, Ordering::Relaxed);
    vec![0; READ_SIZE].into()
}

/// Gives a borrowed buffer back. Returns whether the thread has meanwhile created another.
#[inline]
fn give_read_buffer(buf: Box<[u8]>) -> bool {
    if buf.len() == READ_SIZE {
        match READ.try_with(|spare| spare.0.replace(Some(buf))) {
            Ok(None) => {}
            Ok(Some(other)) => {
                drop_read_buffer(other);
                return true;
            }
            // A thread that is exiting keeps none.
            Err(_) => drop(Dropped),
        }
    }
    false
}

#[cold]
fn drop_read_buffer(buf: Box<[u8]>) {
    drop((buf, Dropped));
}

/// Counts a read buffer as dropped when this is dropped.
struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        READ_BUFFERS.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a handler takes what is read within the turn in which it is read.
///
/// If it does, the rest of a read stays where it is while the handler takes one message after the other. If it does
/// not, for example because it waits for a database, the thread gets its buffer back.
#[derive(Default)]
pub(crate) struct Pace {
    /// The rest of the last read.
    rest: Rest,
    /// The turn in which the decision about it was made.
    turn: u8,
    /// The number of rests in a row that the handler took within one turn, up to [`PROMPT`]; or [`NEVER`].
    prompt: u8,
}

/// A small rest of a read, until the next read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    None,
    /// Moved to a buffer of its own size.
    Moved,
    /// Still in the thread's buffer.
    Kept,
}

impl Pace {
    #[inline]
    fn has_kept(&self) -> bool {
        self.rest == Rest::Kept
    }

    /// Decides about the rest of a read. Returns whether it may stay in the thread's buffer.
    fn may_keep(&mut self) -> bool {
        // Only a handler's task tells where a turn ends.
        let Some(turn) = cork::turn() else { return false };
        self.turn = turn;
        // Many buffers mean that many handlers were slower than expected.
        let keep = self.prompt == PROMPT && READ_BUFFERS.0.load(Ordering::Relaxed) <= MANY;
        self.rest = if keep { Rest::Kept } else { Rest::Moved };
        keep
    }

    /// Records that everything that was read has been taken.
    #[inline]
    fn note_taken(&mut self) {
        if self.rest != Rest::None {
            self.judge();
        }
    }

    #[cold]
    fn judge(&mut self) {
        if self.prompt != NEVER {
            self.prompt = if self.is_turn() { PROMPT.min(self.prompt + 1) } else { 0 };
        }
        self.rest = Rest::None;
    }

    /// Records that the thread has created another buffer while this connection had one. If that happened within one
    /// turn, the handler's task polls other connections as well, and would create one in each turn.
    #[cold]
    fn note_other(&mut self) {
        if self.has_kept() && self.is_turn() {
            self.prompt = NEVER;
        }
    }

    /// Returns whether the turn in which the decision was made continues.
    fn is_turn(&self) -> bool {
        cork::turn() == Some(self.turn)
    }
}

/// Bytes that were read but not decoded. An empty buffer holds no memory.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// Creates a buffer with bytes that were read elsewhere.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        if bytes.len() == READ_SIZE {
            // Its size makes it a read buffer, which a thread will get.
            READ_BUFFERS.0.fetch_add(1, Ordering::Relaxed);
        }
        Self { buf: bytes.into(), start: 0, end: bytes.len() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the bytes to decode.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Borrows the bytes to decode, which may be changed, and their start. The caller moves the start beyond what it
    /// has decoded and then calls [`keep_last`](Self::keep_last).
    #[inline]
    pub(crate) fn parts_mut(&mut self) -> (&mut [u8], &mut usize) {
        (&mut self.buf[self.start..self.end], &mut self.start)
    }

    /// Calls `read` with the thread's buffer, of which it may fill at most `most` bytes, and returns their number. The
    /// thread gets its buffer back at once if nothing was read. This buffer must be empty.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "a call was 1 % of the instructions of an echo")]
    pub(crate) fn fill<R>(
        &mut self,
        most: usize,
        pace: &mut Pace,
        read: impl FnOnce(&mut ReadBuf<'_>) -> R,
    ) -> (R, usize) {
        debug_assert!(self.is_empty(), "what was read before is decoded first");
        pace.note_taken();
        if !self.buf.is_empty() {
            // The application panicked while it looked at the last message.
            self.release();
        }
        let mut buf = take_read_buffer();
        let most = most.min(buf.len());
        let mut filling = ReadBuf::new(&mut buf[..most]);
        let if_it_panics = Dropped;
        let result = read(&mut filling);
        std::mem::forget(if_it_panics);
        let n = filling.filled().len();
        if n > 0 {
            self.buf = buf;
            self.start = 0;
            self.end = n;
        } else {
            give_read_buffer(buf);
        }
        (result, n)
    }

    /// Records that all but the last `left` bytes were decoded, and gives a borrowed buffer back if few are left,
    /// unless the application is expected to take them soon.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a call was 1 % of the instructions for each of many short messages"
    )]
    pub(crate) fn keep_last(&mut self, left: usize, pace: &mut Pace) {
        self.start = self.end - left;
        if left == 0 {
            if self.release() {
                pace.note_other();
            }
        } else if self.buf.len() == READ_SIZE && !pace.has_kept() {
            self.decide(pace);
        }
    }

    /// Decides whether a small remainder stays in a borrowed buffer.
    #[cold]
    fn decide(&mut self, pace: &mut Pace) {
        if self.is_small() && !pace.may_keep() {
            self.settle();
        }
    }

    fn is_small(&self) -> bool {
        self.end - self.start <= KEEP_FROM
    }

    /// Moves a small remainder out of a borrowed buffer and gives the buffer back, because this poll is over.
    #[cold]
    pub(crate) fn end_poll(&mut self, pace: &mut Pace) {
        if self.is_small() {
            self.settle();
            // The turn ends here for another reason than a slow handler.
            pace.rest = Rest::None;
        }
    }

    /// Moves the remainder, whatever its length, to a buffer of exactly its size and gives the borrowed one back,
    /// because the application may not read it for a long time.
    #[cold]
    pub(crate) fn settle(&mut self) {
        let left = self.end - self.start;
        // A copy of all of it would be no smaller.
        if self.buf.len() == READ_SIZE && left < READ_SIZE {
            let rest = self.bytes().into();
            give_read_buffer(std::mem::replace(&mut self.buf, rest));
            self.start = 0;
            self.end = left;
        }
    }

    /// Drops the remaining bytes and gives the buffer back. Returns whether the thread has meanwhile created another.
    #[inline]
    fn release(&mut self) -> bool {
        self.start = 0;
        self.end = 0;
        give_read_buffer(std::mem::take(&mut self.buf))
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut ReadBuffer, pace: &mut Pace, n: usize) {
        assert_eq!(buffer.fill(usize::MAX, pace, |buf| buf.put_slice(&vec![7; n])), ((), n));
    }

    fn filled(n: usize) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        fill(&mut buffer, &mut Pace::default(), n);
        buffer
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let pace = &mut Pace::default();
        let mut buffer = filled(100);
        buffer.keep_last(0, pace);
        assert_eq!(buffer.buf.len(), 0);
        assert_eq!(buffer.fill(usize::MAX, pace, |buf| buf.capacity()), (READ_SIZE, 0));
        assert_eq!(buffer.buf.len(), 0, "nothing was read");
        assert_eq!(buffer.fill(10, pace, |buf| buf.capacity()), (10, 0));
    }

    #[test]
    fn a_small_rest_gets_a_buffer_of_its_own_size() {
        let pace = &mut Pace::default();
        let mut buffer = filled(20_000);
        buffer.keep_last(KEEP_FROM + 1, pace);
        assert_eq!(buffer.buf.len(), READ_SIZE, "worth keeping");
        buffer.keep_last(100, pace);
        assert_eq!(buffer.buf.len(), 100);
        assert_eq!(buffer.bytes(), [7; 100]);
        buffer.keep_last(40, pace);
        assert_eq!(buffer.bytes(), [7; 40]);
    }

    /// Reads and leaves a rest. Returns whether it has stayed in the thread's buffer.
    fn leaves_a_rest(buffer: &mut ReadBuffer, pace: &mut Pace) -> bool {
        fill(buffer, pace, 100);
        buffer.keep_last(60, pace);
        assert_eq!(buffer.bytes(), [7; 60]);
        buffer.buf.len() == READ_SIZE
    }

    fn take(buffer: &mut ReadBuffer, pace: &mut Pace) {
        buffer.keep_last(20, pace);
        assert_eq!(buffer.bytes(), [7; 20]);
        buffer.keep_last(0, pace);
        fill(buffer, pace, 0);
        assert_eq!(buffer.buf.len(), 0);
    }

    #[test]
    fn the_rest_of_a_prompt_handler_stays_where_it_is() {
        let (buffer, pace) = (&mut ReadBuffer::default(), &mut Pace::default());
        for _ in 0..2 {
            for expected in [false, false, false, false, true, true] {
                let _turn = cork::Cork::new(1);
                assert_eq!(leaves_a_rest(buffer, pace), expected);
                take(buffer, pace);
            }
            // The handler waits for something else while a rest is here.
            let turn = cork::Cork::new(1);
            assert!(leaves_a_rest(buffer, pace));
            drop(turn);
            let _turn = cork::Cork::new(1);
            take(buffer, pace);
        }
    }

    /// As a task does that selects between two connections.
    #[test]
    fn the_rest_is_moved_for_good_if_another_connection_reads_meanwhile() {
        let (one, pace) = (&mut ReadBuffer::default(), &mut Pace::default());
        let mut kept = 0;
        for _ in 0..20 {
            let _turn = cork::Cork::new(1);
            kept += u8::from(leaves_a_rest(one, pace));
            drop(filled(10));
            take(one, pace);
        }
        assert_eq!(kept, 1);
    }

    #[test]
    fn without_turns_no_rest_stays() {
        let (buffer, pace) = (&mut ReadBuffer::default(), &mut Pace::default());
        for _ in 0..10 {
            assert!(!leaves_a_rest(buffer, pace));
            take(buffer, pace);
        }
    }

    #[test]
    fn a_rest_that_stayed_is_moved_at_the_end_of_the_poll() {
        let (buffer, pace) = (&mut ReadBuffer::default(), &mut Pace::default());
        let turn = cork::Cork::new(1);
        while !leaves_a_rest(buffer, pace) {
            take(buffer, pace);
        }
        buffer.end_poll(pace);
        assert_eq!(buffer.buf.len(), 60);
        drop(turn);
        let _next = cork::Cork::new(1);
        take(buffer, pace);
        assert!(leaves_a_rest(buffer, pace), "the handler was not slow");
    }

    /// Other tests of the process create buffers as well, but not that many.
    #[test]
    fn every_buffer_is_counted_until_it_is_dropped() {
        let before = READ_BUFFERS.0.load(Ordering::Relaxed);
        for _ in 0..500 {
            let mut full = filled(READ_SIZE);
            full.settle();
            drop((full, ReadBuffer::new(&vec![7; READ_SIZE])));
            let read =
                || ReadBuffer::default().fill(1, &mut Pace::default(), |_| panic!("a transport that panics"));
            assert!(std::panic::catch_unwind(read).is_err());
            let thread = std::thread::spawn(|| drop(filled(1)));
            thread.join().unwrap();
        }
        let after = READ_BUFFERS.0.load(Ordering::Relaxed);
        assert!(after.abs_diff(before) < 250, "{before}, {after}");
    }

    #[test]
    fn the_thread_keeps_one_buffer_of_each_kind() {
        let many: Vec<_> = (0..10).map(|_| filled(10)).collect();
        drop(many);
        give_write_buffer(Vec::with_capacity(10));
        give_write_buffer(Vec::with_capacity(256 * 1024 + 1));
        let read = READ.with(|spare| spare.0.take()).expect("one is kept");
        assert_eq!(read.len(), 132 * 1024);
        drop_read_buffer(read);
        assert_eq!(WRITE.take().capacity(), 10, "the large one was dropped");
    }

    #[test]
    fn the_thread_keeps_short_buffers_up_to_a_sum() {
        let counted = || SMALL.with_borrow(|small| (small.bufs.len(), small.bytes));
        give_write_buffer(Vec::with_capacity(5000));
        for _ in 0..200 {
            give_write_buffer(Vec::with_capacity(4096));
        }
        assert_eq!(counted(), (127, 127 * (24 + 4096)), "more would be over 512 KiB");
        assert_eq!(take_small_buffer().capacity(), 4096);
        for _ in 0..100_000 {
            give_write_buffer(Vec::with_capacity(8));
        }
        assert!(counted().0 < 400, "very short ones count as well: {:?}", counted());
        while take_small_buffer().capacity() > 0 {}
        assert_eq!(counted(), (0, 0));
        assert_eq!(WRITE.take().capacity(), 5000);
    }
}
