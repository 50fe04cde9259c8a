//! The chunks of a write queue, in order.

use std::collections::VecDeque;

use bytes::Bytes;

/// Some bytes of the queue.
#[derive(Debug)]
pub(crate) enum Chunk {
    Gathered(Vec<u8>),
    Shared(Bytes),
    /// Whole frames that may be dropped as long as none of their bytes was written.
    Droppable(Bytes),
}

impl Chunk {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Shared(bytes) | Self::Droppable(bytes) => bytes,
        }
    }
}

/// Chunks in order. A single one needs no memory beside the queue: most connections that get a broadcast have no other.
#[derive(Debug, Default)]
pub(crate) enum Chunks {
    #[default]
    None,
    One(Chunk),
    /// Never empty.
    Many(VecDeque<Chunk>),
}

impl Chunks {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Chunk> {
        match self {
            Self::None => None,
            Self::One(chunk) => Some(chunk),
            Self::Many(chunks) => chunks.front(),
        }
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Chunk> {
        match self {
            Self::None => None,
            Self::One(chunk) => Some(chunk),
            Self::Many(chunks) => chunks.front_mut(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(chunk) => (Some(chunk), None),
            Self::Many(chunks) => (None, Some(chunks)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Chunk> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(chunk) => (Some(chunk), None),
            Self::Many(chunks) => (None, Some(chunks)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    #[inline]
    pub(crate) fn push_back(&mut self, chunk: Chunk) {
        match self {
            Self::None => *self = Self::One(chunk),
            Self::One(_) => self.push_second(chunk),
            Self::Many(chunks) => chunks.push_back(chunk),
        }
    }

    #[cold]
    fn push_second(&mut self, chunk: Chunk) {
        let mut chunks = VecDeque::with_capacity(4);
        chunks.extend(self.pop_front());
        chunks.push_back(chunk);
        *self = Self::Many(chunks);
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Chunk> {
        self.remove(0)
    }

    /// Removes the chunk at this index.
    #[inline]
    pub(crate) fn remove(&mut self, at: usize) -> Option<Chunk> {
        match self {
            Self::Many(chunks) if chunks.len() > 1 => chunks.remove(at),
            _ if at > 0 => None,
            _ => match std::mem::take(self) {
                Self::None => None,
                Self::One(chunk) => Some(chunk),
                Self::Many(mut chunks) => chunks.pop_front(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_chunk_needs_no_memory_of_its_own() {
        let mut chunks = Chunks::default();
        chunks.push_back(Chunk::Shared(Bytes::from_static(b"one")));
        assert!(matches!(chunks, Chunks::One(_)));
        chunks.push_back(Chunk::Shared(Bytes::from_static(b"two")));
        for left in [1, 0] {
            assert!(chunks.pop_front().is_some());
            assert_eq!(chunks.iter().count(), left);
        }
        assert!(matches!(chunks, Chunks::None), "nothing is left of a longer list");
    }

    proptest! {
        /// The same as a deque, for every sequence of operations.
        #[test]
        fn behaves_like_a_deque(ops in proptest::collection::vec((0..4u8, 0..5usize), 0..40)) {
            let (mut chunks, mut deque) = (Chunks::default(), VecDeque::new());
            for (number, (op, at)) in (0u8..).zip(ops) {
                match op {
                    0 | 1 => {
                        chunks.push_back(Chunk::Gathered(vec![number]));
                        deque.push_back(vec![number]);
                    }
                    2 => {
                        let (removed, expected) = (chunks.remove(at), deque.remove(at));
                        prop_assert_eq!(removed.as_ref().map(Chunk::bytes), expected.as_deref());
                    }
                    _ => {
                        let (removed, expected) = (chunks.pop_front(), deque.pop_front());
                        prop_assert_eq!(removed.as_ref().map(Chunk::bytes), expected.as_deref());
                    }
                }
                prop_assert_eq!(chunks.is_empty(), deque.is_empty());
                prop_assert_eq!(chunks.front().map(Chunk::bytes), deque.front().map(|first| &first[..]));
                let all: Vec<_> = chunks.iter().map(Chunk::bytes).collect();
                prop_assert_eq!(&all, &deque.iter().map(|bytes| &bytes[..]).collect::<Vec<_>>());
                let first = chunks.front_mut().map(|first| first.bytes().to_vec());
                prop_assert_eq!(first.as_ref(), deque.front());
                prop_assert_eq!(chunks.iter_mut().count(), deque.len());
            }
        }
    }
}
