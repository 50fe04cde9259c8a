//! Buffers that a thread lends to its connections, so that a connection that waits holds none.
//!
//! Owns the thread's spare buffers, and the bytes that a connection has read but not decoded. All of them are
//! initialized memory, and a slice shows only bytes that were read into it.

use std::cell::{Cell, RefCell};

use tokio::io::ReadBuf;

/// The maximum number of bytes read at once. Two messages of 64 KiB arrive in one call, with their headers; a buffer
/// four times this size would only copy more of incomplete messages.
const READ_SIZE: usize = 132 * 1024;

/// The maximum number of undecoded bytes that are moved to a buffer of exactly their size, so that a connection
/// whose application is slow does not keep a whole read buffer for them.
const KEEP_FROM: usize = 16 * 1024;

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
// time. A second is created only while a connection keeps one because its application is slow, and is then dropped.
thread_local! {
    static READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
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

#[inline]
fn take_read_buffer() -> Box<[u8]> {
    READ.try_with(Cell::take).ok().flatten().unwrap_or_else(new_read_buffer)
}

#[cold]
fn new_read_buffer() -> Box<[u8]> {
    vec![0; READ_SIZE].into()
}

#[inline]
fn give_read_buffer(buf: Box<[u8]>) {
    if buf.len() == READ_SIZE {
        let _ = READ.try_with(|spare| spare.set(Some(buf)));
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
    pub(crate) fn fill<R>(&mut self, most: usize, read: impl FnOnce(&mut ReadBuf<'_>) -> R) -> (R, usize) {
        debug_assert!(self.is_empty(), "what was read before is decoded first");
        if !self.buf.is_empty() {
            // The application panicked while it looked at the last message.
            self.release();
        }
        let mut buf = take_read_buffer();
        let most = most.min(buf.len());
        let mut filling = ReadBuf::new(&mut buf[..most]);
        let result = read(&mut filling);
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

    /// Records that all but the last `left` bytes were decoded, and gives a borrowed buffer back if few are left.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a call was 1 % of the instructions for each of many short messages"
    )]
    pub(crate) fn keep_last(&mut self, left: usize) {
        self.start = self.end - left;
        if left == 0 {
            self.release();
        } else if self.buf.len() == READ_SIZE {
            self.compact();
        }
    }

    /// Moves a small remainder out of a borrowed buffer and gives the buffer back.
    #[cold]
    fn compact(&mut self) {
        if self.end - self.start <= KEEP_FROM {
            self.settle();
        }
    }

    /// Moves the remainder, whatever its length, to a buffer of exactly its size and gives the borrowed one back,
    /// because the application may not read it for a long time.
    #[cold]
    pub(crate) fn settle(&mut self) {
        let left = self.end - self.start;
        if self.buf.len() == READ_SIZE {
            let rest = self.bytes().into();
            give_read_buffer(std::mem::replace(&mut self.buf, rest));
            self.start = 0;
            self.end = left;
        }
    }

    /// Drops the remaining bytes and gives the buffer back.
    #[inline]
    pub(crate) fn release(&mut self) {
        give_read_buffer(std::mem::take(&mut self.buf));
        self.start = 0;
        self.end = 0;
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

    fn filled(n: usize) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        assert_eq!(buffer.fill(usize::MAX, |buf| buf.put_slice(&vec![7; n])), ((), n));
        buffer
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = filled(100);
        buffer.keep_last(0);
        assert_eq!(buffer.buf.len(), 0);
        assert_eq!(buffer.fill(usize::MAX, |buf| buf.capacity()), (READ_SIZE, 0));
        assert_eq!(buffer.buf.len(), 0, "nothing was read");
        assert_eq!(buffer.fill(10, |buf| buf.capacity()), (10, 0));
    }

    #[test]
    fn a_small_rest_gets_a_buffer_of_its_own_size() {
        let mut buffer = filled(20_000);
        buffer.keep_last(KEEP_FROM + 1);
        assert_eq!(buffer.buf.len(), READ_SIZE, "worth keeping");
        buffer.keep_last(100);
        assert_eq!(buffer.buf.len(), 100);
        assert_eq!(buffer.bytes(), [7; 100]);
        buffer.keep_last(40);
        assert_eq!(buffer.bytes(), [7; 40]);
    }

    #[test]
    fn the_thread_keeps_one_buffer_of_each_kind() {
        let many: Vec<_> = (0..10).map(|_| filled(10)).collect();
        drop(many);
        give_write_buffer(Vec::with_capacity(10));
        give_write_buffer(Vec::with_capacity(256 * 1024 + 1));
        assert_eq!(READ.take().map(|buf| buf.len()), Some(132 * 1024));
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
