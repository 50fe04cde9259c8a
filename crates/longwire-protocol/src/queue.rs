//! What waits to be written: small frames gathered in one buffer, large payloads by reference.
//!
//! Owns order and positions. What the bytes mean belongs to [`crate::outbound`]; who writes them, to the caller.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Bytes to be written, in order.
///
/// ```text
///   front:  [ gathered | shared | droppable | .. ]   tail: [ gathered so far ....... ]
///             ^ `written` bytes of the first chunk are gone
/// ```
/// While nothing but small frames is queued, all of it is in `tail` and one plain write takes it.
#[derive(Debug, Default)]
pub struct WriteQueue {
    front: VecDeque<Chunk>,
    tail: Vec<u8>,
    /// How much of the first chunk (of `tail` if `front` is empty) has been written.
    written: usize,
    /// Bytes not yet written, over all chunks.
    len: usize,
}

#[derive(Debug)]
enum Chunk {
    Gathered(Vec<u8>),
    Shared(Bytes),
    /// Whole frames that may be dropped as long as none of their bytes was written.
    Droppable(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Shared(bytes) | Self::Droppable(bytes) => bytes,
        }
    }
}

impl WriteQueue {
    /// How many bytes wait to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How much memory what waits takes, in bytes, about.
    #[inline]
    pub fn cost(&self) -> usize {
        self.len + self.front.len() * size_of::<Chunk>()
    }

    /// Whether nothing waits to be written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes to be written next, if they are all in one piece.
    #[inline]
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.front.is_empty().then(|| &self.tail[self.written..])
    }

    /// Fills `slices` with the bytes to be written next, and says how many slices it filled.
    pub fn chunks<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut skip = self.written;
        let chunks = self.front.iter().map(Chunk::bytes).chain(std::iter::once(&self.tail[..]));
        for (slot, chunk) in slices.iter_mut().zip(chunks) {
            *slot = IoSlice::new(&chunk[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// Takes `n` bytes off the front: they were written.
    ///
    /// # Panics
    ///
    /// If `n` is more than [`len`](Self::len).
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.advance_sparing(n, &mut Vec::new());
    }

    /// [`advance`](Self::advance), and leaves in `spare` the memory of a large payload that nobody else holds, for the next
    /// one to be received: to get as much anew from the system costs more than to fill it.
    ///
    /// # Panics
    ///
    /// If `n` is more than [`len`](Self::len).
    #[inline]
    pub fn advance_sparing(&mut self, n: usize, spare: &mut Vec<u8>) {
        assert!(n <= self.len, "more was written than was queued");
        self.len -= n;
        self.written += n;
        if !self.front.is_empty() {
            self.drop_written_chunks(spare);
        }
        if self.len == 0 {
            self.tail.clear();
            self.written = 0;
        } else if self.front.is_empty() && self.written > COMPACT && self.written > self.tail.len() / 2 {
            // Moves less than it frees, so that a queue which never runs empty stays as small as what waits.
            self.tail.drain(..self.written);
            self.written = 0;
        }
    }

    #[cold]
    fn drop_written_chunks(&mut self, spare: &mut Vec<u8>) {
        while let Some(first) = self.front.front() {
            let len = first.bytes().len();
            if self.written < len {
                return;
            }
            self.written -= len;
            if let Some(Chunk::Shared(bytes)) = self.front.pop_front()
                && SPARED.contains(&bytes.len())
                && let Ok(mut own) = bytes.try_into_mut()
            {
                own.clear();
                *spare = own.into();
            }
        }
        self.front = VecDeque::new();
    }

    /// Gives back the gathering buffer if nothing waits, so that an idle connection holds none.
    #[inline]
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.len == 0 && self.tail.capacity() > 0).then(|| std::mem::take(&mut self.tail))
    }

    /// Lends an empty buffer to gather small frames in, if there is none; else drops it.
    #[inline]
    pub fn lend(&mut self, buf: impl FnOnce() -> Vec<u8>) {
        if self.tail.capacity() == 0 {
            self.tail = buf();
            self.tail.clear();
        }
    }

    /// Drops the oldest droppable frames of which nothing was written; their length, or `None` if there are none.
    pub fn drop_oldest(&mut self) -> Option<usize> {
        let (at, _) = self.droppable().next()?;
        let len = self.front.remove(at)?.bytes().len();
        self.len -= len;
        Some(len)
    }

    /// The part of [`cost`](Self::cost) that [`drop_oldest`](Self::drop_oldest) can free.
    pub(crate) fn droppable_cost(&self) -> usize {
        self.droppable().map(|(_, bytes)| bytes.len() + size_of::<Chunk>()).sum()
    }

    /// The droppable frames of which nothing was written, oldest first, with their places in `front`.
    fn droppable(&self) -> impl Iterator<Item = (usize, &Bytes)> {
        self.front.iter().enumerate().filter_map(|(at, chunk)| match chunk {
            Chunk::Droppable(bytes) if at > 0 || self.written == 0 => Some((at, bytes)),
            _ => None,
        })
    }

    /// Appends what `write` appends to the gathering buffer.
    #[inline]
    pub(crate) fn gather(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// Appends bytes by reference.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.push(Chunk::Shared(bytes));
    }

    /// Appends whole frames by reference that [`drop_oldest`](Self::drop_oldest) may take back.
    pub(crate) fn share_droppable(&mut self, bytes: Bytes) {
        self.push(Chunk::Droppable(bytes));
    }

    fn push(&mut self, chunk: Chunk) {
        if !self.tail.is_empty() {
            self.front.push_back(Chunk::Gathered(std::mem::take(&mut self.tail)));
        }
        self.len += chunk.bytes().len();
        self.front.push_back(chunk);
    }
}

/// Below this many written bytes the gathering buffer is not worth moving.
const COMPACT: usize = 16 * 1024;

/// How long a payload is whose memory is worth keeping for another, and not too much to keep.
pub(crate) const SPARED: std::ops::RangeInclusive<usize> = 64 * 1024..=4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(queue: &WriteQueue, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = queue.chunks(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
        if let Some(contiguous) = queue.contiguous() {
            assert_eq!(contiguous, &bytes[..]);
        }
        bytes[..most.min(bytes.len())].to_vec()
    }

    #[test]
    fn drops_the_oldest_that_is_untouched() {
        let mut queue = WriteQueue::default();
        assert_eq!(queue.drop_oldest(), None);
        queue.share_droppable(Bytes::from_static(b"one"));
        queue.gather(|tail| tail.extend_from_slice(b"own"));
        queue.share_droppable(Bytes::from_static(b"three"));
        queue.share_droppable(Bytes::from_static(b"four"));
        queue.advance(1);
        assert_eq!(queue.drop_oldest(), Some(5), "the first has begun to be written");
        assert_eq!(taken(&queue, 100), b"neownfour");
        assert_eq!(queue.len(), 9);
    }

    #[test]
    fn holds_no_buffer_once_it_is_empty_and_reclaimed() {
        let mut queue = WriteQueue::default();
        queue.gather(|tail| tail.extend_from_slice(b"frame"));
        assert_eq!(queue.reclaim(), None, "bytes wait in it");
        queue.advance(5);
        assert!(queue.reclaim().is_some());
        assert_eq!(queue.tail.capacity(), 0);
    }

    #[test]
    fn a_queue_that_never_runs_empty_stays_small() {
        let mut queue = WriteQueue::default();
        queue.gather(|tail| tail.extend_from_slice(&[0; 100]));
        for _ in 0..10_000 {
            queue.gather(|tail| tail.extend_from_slice(&[0; 1000]));
            queue.advance(1000);
        }
        assert_eq!(queue.len(), 100);
        assert!(queue.tail.capacity() < 5 * COMPACT, "{}", queue.tail.capacity());
    }

    proptest! {
        /// Whatever is queued comes out in order, for every sequence of operations and every size of write.
        #[test]
        fn keeps_the_order(ops in proptest::collection::vec((0..3u8, 0..400usize), 0..60)) {
            let mut queue = WriteQueue::default();
            let (mut expected, mut actual) = (Vec::new(), Vec::new());
            for (i, (op, n)) in ops.into_iter().enumerate() {
                let bytes = vec![u8::try_from(i).unwrap_or(0); n];
                match op {
                    0 => queue.gather(|tail| tail.extend_from_slice(&bytes)),
                    1 => queue.share(bytes.clone().into()),
                    _ => {
                        let some = taken(&queue, n);
                        queue.advance(some.len());
                        actual.extend(some);
                        continue;
                    }
                }
                expected.extend(bytes);
                prop_assert_eq!(queue.len(), expected.len() - actual.len());
            }
            while !queue.is_empty() {
                let some = taken(&queue, 7);
                queue.advance(some.len());
                actual.extend(some);
            }
            prop_assert_eq!(expected, actual);
        }
    }
}
