//! The last window of plaintext, so that a context can be given back and another can continue.
//!
//! Owns the bytes that are kept, and their memory. A context has its own window; this is the copy that outlives it.

/// The last bytes of a direction, oldest first:
///
/// ```text
///            0        start       len
/// until full [ oldest ........ newest ]       start is 0
/// full       [ newer  | oldest ... newer ]    the next byte goes to start
/// ```
#[derive(Debug, Default)]
pub(crate) struct History {
    bytes: Vec<u8>,
    /// Less than the largest window, and 0 until `bytes` is as long as the window.
    start: u16,
    /// The size of the window in the last call of [`push`](Self::push).
    size: u16,
}

impl History {
    /// Appends plaintext, and forgets everything more than `size` bytes back.
    ///
    /// `size` is at most 32 KiB. It costs a move of the content to change it. Memory grows with the content, to the
    /// largest `size` at most, in steps of some KiB: [`shrink`](Self::shrink) frees the unused part.
    pub(crate) fn push(&mut self, said: &[u8], size: usize) {
        if size != usize::from(self.size) {
            self.resize(size);
        }
        let said = &said[said.len().saturating_sub(size)..];
        let (growth, rest) = said.split_at(said.len().min(size - self.bytes.len()));
        if !growth.is_empty() {
            let needed = self.bytes.len() + growth.len();
            if needed > self.bytes.capacity() {
                let wanted = needed.max(self.bytes.capacity() * 2).max(FIRST).min(size);
                self.bytes.reserve_exact(wanted - self.bytes.len());
            }
            self.bytes.extend_from_slice(growth);
        }
        if !rest.is_empty() {
            let start = usize::from(self.start);
            let (to_end, from_zero) = rest.split_at(rest.len().min(size - start));
            self.bytes[start..start + to_end.len()].copy_from_slice(to_end);
            self.bytes[..from_zero.len()].copy_from_slice(from_zero);
            let next = (start + rest.len()) % size;
            self.start = u16::try_from(next).expect("a window is at most 32 KiB");
        }
    }

    /// Forgets everything more than `size` bytes back, and puts the oldest byte first.
    #[cold]
    pub(crate) fn resize(&mut self, size: usize) {
        self.bytes.rotate_left(usize::from(std::mem::take(&mut self.start)));
        self.bytes.drain(..self.bytes.len().saturating_sub(size));
        self.size = u16::try_from(size).expect("a window is at most 32 KiB");
    }

    /// Returns the content, the older part first.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let (newer, older) = self.bytes.split_at(usize::from(self.start));
        [older, newer].into_iter().filter(|part| !part.is_empty())
    }

    /// Forgets everything, and frees the memory.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Frees unused capacity.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Returns the number of bytes allocated.
    pub(crate) fn allocated(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The size of the first allocation: growing from a few bytes leaves gaps in the heap that nothing of that size fills.
const FIRST: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keeps_the_last_bytes_in_order(
            size in 1usize..40,
            pushes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
        ) {
            let mut history = History::default();
            let mut naive = Vec::new();
            for said in pushes {
                history.push(&said, size);
                naive.extend_from_slice(&said);
                let kept = &naive[naive.len().saturating_sub(size)..];
                prop_assert_eq!(history.parts().collect::<Vec<_>>().concat(), kept);
                prop_assert!(history.allocated() <= size);
            }
            history.shrink();
            prop_assert_eq!(history.allocated(), naive.len().min(size));
        }
    }

    proptest! {
        #[test]
        fn its_size_can_change(
            pushes in prop::collection::vec((1usize..40, prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        ) {
            let mut history = History::default();
            let mut naive = Vec::new();
            for (size, said) in pushes {
                history.push(&said, size);
                naive.extend_from_slice(&said);
                // What was forgotten with a smaller size does not come back.
                naive.drain(..naive.len().saturating_sub(size));
                prop_assert_eq!(history.parts().collect::<Vec<_>>().concat(), naive.clone());
            }
        }
    }

    #[test]
    fn its_memory_is_4_kib_at_first_and_then_doubles() {
        let mut history = History::default();
        for (said, allocated) in
            [(1, 4096), (4094, 4096), (1, 4096), (1, 8192), (10_000, 16_384), (1, 16_384), (10_000, 32_768)]
        {
            history.push(&vec![1; said], 1 << 15);
            assert_eq!(history.allocated(), allocated, "{said} bytes more");
        }
    }

    #[test]
    fn keeps_nothing_in_a_window_of_nothing() {
        let mut history = History::default();
        history.push(b"Hello", 0);
        assert_eq!((history.parts().count(), history.allocated()), (0, 0));
    }
}
