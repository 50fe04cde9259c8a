//! The locks and atomics of the parts that several threads share: the standard library's, or loom's in its models.

#[cfg(not(longwire_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

#[cfg(longwire_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

use std::sync::{PoisonError, TryLockError};

/// Locks, whatever a panic under the lock has left: every operation here leaves the state whole.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks if nobody else has the lock now.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Which connections this thread has locked, so that tests see it where something is done under a lock that may take long:
/// threads that broadcast wait for it. Nothing of this is in a release build.
#[cfg(all(debug_assertions, not(longwire_loom)))]
pub(crate) mod held {
    use std::cell::RefCell;

    thread_local! {
        /// The addresses of the connections: a connection may be the transport of another.
        static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn add(address: usize) {
        // While the thread ends there is no list.
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
