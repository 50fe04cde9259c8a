//! Random bytes for the crates above: masking keys, nonces, and the spreading of reconnection attempts.
//!
//! RFC 6455 §5.3 wants masking keys "derived from a strong source of entropy"; otherwise a page could choose the bytes
//! that a proxy sees on the wire (§10.3). These come from the operating system, which is asked for many at a time: a
//! system call for each frame would cost more than the frame.

use std::cell::RefCell;

use longwire_protocol::MaskingKey;

/// The bytes that one call of the operating system yields.
const BATCH: usize = 1024;

/// The bytes that a thread has in reserve.
struct Reserve {
    bytes: [u8; BATCH],
    /// The number of bytes at the front that are not yet used.
    left: usize,
}

thread_local! {
    static RESERVE: RefCell<Reserve> = const { RefCell::new(Reserve { bytes: [0; BATCH], left: 0 }) };
}

/// Returns `N` bytes that nobody can predict; at most 1024.
///
/// # Panics
///
/// If the operating system has no random bytes, which happens only if a sandbox forbids the call.
pub fn random<const N: usize>() -> [u8; N] {
    const { assert!(N <= BATCH) };
    RESERVE.with_borrow_mut(Reserve::take)
}

/// Returns the masking key of one frame.
///
/// # Panics
///
/// As [`random`].
pub fn masking_key() -> MaskingKey {
    MaskingKey::new(random())
}

impl Reserve {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.left < N {
            self.refill();
        }
        let from = self.left - N;
        let mut taken = [0; N];
        taken.copy_from_slice(&self.bytes[from..self.left]);
        self.left = from;
        taken
    }

    #[cold]
    fn refill(&mut self) {
        // Until the call has succeeded, nothing is in reserve: a panic must not leave used bytes to be used again.
        self.left = 0;
        getrandom::fill(&mut self.bytes).expect("the operating system has random bytes");
        self.left = BATCH;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_bytes_come_twice() {
        // Several batches, on two threads.
        let take = || (0..600).map(|_| random::<16>()).collect::<Vec<_>>();
        let other = std::thread::spawn(take);
        let mut all = take();
        all.extend(other.join().unwrap());
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1200);
    }

    #[test]
    fn what_a_batch_has_left_is_not_enough() {
        let mut reserve = Reserve { bytes: [0; BATCH], left: 3 };
        let taken: [u8; 4] = reserve.take();
        assert_eq!(reserve.left, BATCH - 4);
        assert_eq!(taken, reserve.bytes[BATCH - 4..]);
        assert_ne!(reserve.bytes, [0; BATCH]);
    }
}
