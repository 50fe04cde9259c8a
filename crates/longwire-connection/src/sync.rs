//! The locks and atomics for state that several threads share: the standard library's, or loom's in its models.

#[cfg(not(longwire_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(longwire_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

#[cfg(longwire_loom)]
pub(crate) use loom::thread::yield_now;
#[cfg(not(longwire_loom))]
pub(crate) use std::thread::yield_now;

use std::sync::{PoisonError, TryLockError};

/// Locks, ignoring poisoning: every operation leaves the state consistent, even if it panics.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks if the lock is free now.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The connections that this thread has locked. Debug assertions use it to detect work under a lock that may take
/// long, because threads that broadcast wait for the lock. Release builds contain none of this.
#[cfg(all(debug_assertions, not(longwire_loom)))]
pub(crate) mod held {
    use std::cell::RefCell;

    thread_local! {
        /// The addresses of the connections. There may be several, because a connection may be the transport of
        /// another.
        static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn add(address: usize) {
        // A thread that is exiting no longer has the list.
        let _ = HELD.try_with(|held| held.borrow_mut().push(address));
    }

    pub(crate) fn remove(address: usize) {
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(at) = held.iter().rposition(|&of| of == address) {
                held.remove(at);
            }
        });
    }

    pub(crate) fn has(address: usize) -> bool {
        HELD.try_with(|held| held.borrow().contains(&address)).unwrap_or(false)
    }
}

#[cfg(not(all(debug_assertions, not(longwire_loom))))]
pub(crate) mod held {
    #[inline]
    pub(crate) fn add(_: usize) {}

    #[inline]
    pub(crate) fn remove(_: usize) {}

    #[inline]
    pub(crate) fn has(_: usize) -> bool {
        false
    }
}
