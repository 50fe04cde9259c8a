//! Buffers that a thread lends to its connections, so that a connection which waits holds none.
//!
//! Owns the thread's spare buffers and what a connection has read but not yet decoded. All of them are initialised
//! memory: what a slice shows is what was read into it.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

/// How much is read at once. A message of 64 KiB comes in one call; four times as much only copies more of what is
/// incomplete.
const READ_SIZE: usize = 128 * 1024;

/// A rest of no more than this is moved to a buffer of its own size, so that a connection whose application is slow does
/// not keep a whole read buffer for it.
const KEEP_FROM: usize = 16 * 1024;

/// A write buffer that has grown beyond this is not kept.
const WRITE_SIZE: usize = 256 * 1024;

/// The first large payloads are freed, not kept: common allocators map a region for each of them, which is slow to copy to and
/// from, until they have seen such sizes come and go.
const LEARNING: u8 = 2;

// One of each kind is enough: they are lent for the time of a poll, and a thread polls one connection at a time. A second
// is only made while a connection keeps one because its application is slow, and then dropped.
thread_local! {
    static READ: Cell<Box<[u8]>> = Cell::new(Box::default());
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The memory of a large payload that is gone.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// How many such were given back, up to [`LEARNING`].
    static SPARED: Cell<u8> = const { Cell::new(0) };
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Lends the block that short messages are cut from.
#[inline]
pub(crate) fn with_block<R>(lend: impl FnOnce(&mut BytesMut) -> R) -> R {
    BLOCK.with(|block| lend(&mut block.borrow_mut()))
}

/// Lends the memory that the thread keeps for a large payload: to leave some there, or to take it.
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

/// Takes an empty buffer to gather frames in.
#[inline]
pub(crate) fn take_write_buffer() -> Vec<u8> {
    // While the thread ends there are no spares.
    WRITE.try_with(Cell::take).unwrap_or_default()
}

/// Gives a buffer back.
#[inline]
pub(crate) fn give_write_buffer(buf: Vec<u8>) {
    if buf.capacity() <= WRITE_SIZE {
        let _ = WRITE.try_with(|spare| spare.set(buf));
    }
}

#[inline]
fn take_read_buffer() -> Box<[u8]> {
    let spare = READ.try_with(Cell::take).unwrap_or_default();
    if spare.is_empty() { new_read_buffer() } else { spare }
}

#[cold]
fn new_read_buffer() -> Box<[u8]> {
    vec![0; READ_SIZE].into()
}

#[inline]
fn give_read_buffer(buf: Box<[u8]>) {
    if buf.len() == READ_SIZE {
        let _ = READ.try_with(|spare| spare.set(buf));
    }
}

/// What was read and not yet decoded. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// Begins with bytes that came from elsewhere.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self { buf: bytes.into(), start: 0, end: bytes.len() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What is to be decoded.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// Borrows a buffer to read into, from its front. Only for an empty one; [`filled`](Self::filled) has to follow.
    #[inline]
    pub(crate) fn lend(&mut self) -> &mut [u8] {
        debug_assert!(self.is_empty());
        if self.buf.len() != READ_SIZE {
            self.buf = take_read_buffer();
        }
        &mut self.buf
    }

    /// Takes note that `n` bytes were read into the borrowed buffer.
    #[inline]
    pub(crate) fn filled(&mut self, n: usize) {
        self.start = 0;
        self.end = n;
        if n == 0 {
            self.release();
        }
    }

    /// Takes note that all but the last `left` bytes were decoded, and gives a borrowed buffer back if little is left.
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

    /// Moves a small rest out of a borrowed buffer and gives that back.
    #[cold]
    fn compact(&mut self) {
        if self.end - self.start <= KEEP_FROM {
            self.settle();
        }
    }

    /// Moves the rest, however large, to a buffer of its own size and gives the borrowed one back: nobody knows when the
    /// application takes it.
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

    /// Drops what is left and gives the buffer back.
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
        buffer.lend()[..n].fill(7);
        buffer.filled(n);
        buffer
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = filled(100);
        buffer.keep_last(0);
        assert_eq!(buffer.buf.len(), 0);
        assert_eq!(buffer.lend().len(), READ_SIZE);
        buffer.filled(0);
        assert_eq!(buffer.buf.len(), 0, "nothing was read");
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
        assert_eq!(READ.take().len(), 128 * 1024);
        assert_eq!(WRITE.take().capacity(), 10, "the large one was dropped");
    }
}
