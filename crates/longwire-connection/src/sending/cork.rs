//! The cork: while a thread polls a connection's handler, the messages that it sends there are gathered.
//!
//! The thread owns the cork, so it needs no synchronization. Another thread that sends on the same connection sees
//! no cork and writes the queue itself.

use std::cell::Cell;
use std::marker::PhantomData;

#[cfg(not(longwire_loom))]
thread_local! {
    /// The address of the connection whose handler this thread polls, or [`NOBODY`].
    static CORKED: Cell<usize> = const { Cell::new(NOBODY) };
    /// The number of turns that handlers have had on this thread, modulo 256.
    static TURNS: Cell<u8> = const { Cell::new(0) };
}

#[cfg(longwire_loom)]
loom::thread_local! {
    static CORKED: Cell<usize> = Cell::new(NOBODY);
    static TURNS: Cell<u8> = Cell::new(0);
}

const NOBODY: usize = 0;

/// Keeps a connection corked on this thread.
///
/// A handler may poll another connection's handler in its turn. The outer cork is restored when the inner one is
/// dropped.
pub(crate) struct Cork {
    outer: usize,
    /// Keeps the cork on its thread.
    not_send: PhantomData<*const ()>,
}

impl Cork {
    #[inline]
    pub(crate) fn new(address: usize) -> Self {
        TURNS.with(|turns| turns.set(turns.get().wrapping_add(1)));
        Self { outer: CORKED.with(|corked| corked.replace(address)), not_send: PhantomData }
    }

    /// Returns whether the connection at `address` is corked on this thread.
    #[inline]
    pub(crate) fn is_on(address: usize) -> bool {
        CORKED.with(Cell::get) == address
    }
}

/// Returns a number for the turn of the handler that this thread polls, if it polls one. The same number means the same
/// turn, most likely: it is one of 256, and those of two threads have nothing to do with each other.
pub(crate) fn turn() -> Option<u8> {
    (CORKED.with(Cell::get) != NOBODY).then(|| TURNS.with(Cell::get))
}

impl Drop for Cork {
    #[inline]
    fn drop(&mut self) {
        CORKED.with(|corked| corked.set(self.outer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_to_one_connection_and_one_thread() {
        let cork = Cork::new(1);
        assert!(Cork::is_on(1) && !Cork::is_on(2));
        std::thread::spawn(|| assert!(!Cork::is_on(1))).join().unwrap();
        drop(cork);
        assert!(!Cork::is_on(1));
    }

    #[test]
    fn the_outer_one_is_back_behind_the_inner_one() {
        let outer = Cork::new(1);
        let inner = Cork::new(2);
        assert!(!Cork::is_on(1) && Cork::is_on(2));
        drop(inner);
        assert!(Cork::is_on(1));
        drop(outer);
        assert!(!Cork::is_on(1));
    }
}
