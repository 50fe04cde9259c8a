//! Compressors and decompressors that connections share.
//!
//! Owns the number of idle contexts, and ensures that each is handed out in its initial state. When one is needed
//! belongs to `deflater.rs` and `inflater.rs`.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use flate2::{Compress, Compression};

use crate::{Level, WindowBits, decompressor::Decompressor};

/// The store from which connections borrow compressors and decompressors, and to which they give them back.
///
/// A compressor takes 250 to 380 KiB and a decompressor 48, so they are created when a message needs one and none is
/// idle, and shared by all clones of the pool. Clones are cheap and share one store. A lock is held only while taking
/// or giving back, never while compressing.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// The most contexts that wait in a [`Pool`] for their next use; those given back beyond that are freed.
///
/// This bounds the memory that an idle process keeps. For a busy one it bounds only the kept decompressors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Compressors of all levels and windows together. Default: 4, for 1.5 MiB at most. Creating one takes 5 µs, which
    /// is the cost for a thread that finds none.
    pub idle_compressors: usize,

    /// Decompressors. Default: 16, for 768 KiB at most: more than compressors, because a message that arrives in parts
    /// holds one until its end.
    pub idle_decompressors: usize,

    /// The most connections with context takeover that may hold a decompressor between their messages, until they are
    /// parked. Default: 64, for 3 MiB. The others borrow one for each message and load the window again, which takes a
    /// microsecond.
    pub kept_decompressors: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { idle_compressors: 4, idle_decompressors: 16, kept_decompressors: 64 }
    }
}

impl PoolOptions {
    /// Sets [`idle_compressors`](Self::idle_compressors).
    #[must_use]
    pub fn with_idle_compressors(mut self, idle_compressors: usize) -> Self {
        self.idle_compressors = idle_compressors;
        self
    }

    /// Sets [`idle_decompressors`](Self::idle_decompressors).
    #[must_use]
    pub fn with_idle_decompressors(mut self, idle_decompressors: usize) -> Self {
        self.idle_decompressors = idle_decompressors;
        self
    }

    /// Sets [`kept_decompressors`](Self::kept_decompressors).
    #[must_use]
    pub fn with_kept_decompressors(mut self, kept_decompressors: usize) -> Self {
        self.kept_decompressors = kept_decompressors;
        self
    }
}

struct Shared {
    options: PoolOptions,
    /// All of them reset, the longest idle first.
    compressors: Mutex<VecDeque<(ContextKind, Box<Compress>)>>,
    /// All of them reset.
    #[expect(clippy::vec_box, reason = "who holds one holds a pointer, which many do not")]
    decompressors: Mutex<Vec<Box<Decompressor>>>,
    /// Connections that hold a decompressor between their messages.
    kept: AtomicUsize,
}

/// The properties that two compressors must share to be interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContextKind {
    pub(crate) level: Level,
    /// Not 8, which makes the backend panic.
    pub(crate) window_bits: WindowBits,
}

impl Pool {
    /// Creates a pool, which is initially empty.
    pub fn new(options: PoolOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                compressors: Mutex::default(),
                decompressors: Mutex::default(),
                kept: AtomicUsize::new(0),
            }),
        }
    }

    /// Returns the number of idle compressors.
    pub fn idle_compressors(&self) -> usize {
        lock(&self.shared.compressors).len()
    }

    /// Returns the number of idle decompressors.
    pub fn idle_decompressors(&self) -> usize {
        lock(&self.shared.decompressors).len()
    }

    pub(crate) fn take_compressor(&self, kind: ContextKind) -> Box<Compress> {
        let mut idle = lock(&self.shared.compressors);
        // The most recent first: it is the most likely to be in the processor's caches.
        let found = idle.iter().rposition(|(of, _)| *of == kind).and_then(|at| idle.remove(at));
        drop(idle);
        match found {
            Some((_, context)) => context,
            None => Box::new(Compress::new_with_window_bits(
                Compression::new(kind.level.get().into()),
                false,
                kind.window_bits.get(),
            )),
        }
    }

    pub(crate) fn give_compressor(&self, kind: ContextKind, mut context: Box<Compress>) {
        context.reset();
        let mut idle = lock(&self.shared.compressors);
        idle.push_back((kind, context));
        // The longest idle one is dropped, so that a kind that is no longer used cannot fill the pool.
        let surplus = if idle.len() > self.shared.options.idle_compressors { idle.pop_front() } else { None };
        drop(idle);
        drop(surplus);
    }

    #[allow(clippy::unnecessary_box_returns, reason = "who holds one holds a pointer, which many do not")]
    pub(crate) fn take_decompressor(&self) -> Box<Decompressor> {
        let found = lock(&self.shared.decompressors).pop();
        found.unwrap_or_else(|| Box::new(Decompressor::new()))
    }

    /// Returns whether one more connection may hold a decompressor between its messages; the connection reports when it
    /// no longer does.
    pub(crate) fn keep(&self) -> bool {
        let most = self.shared.options.kept_decompressors;
        self.shared
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| (kept < most).then_some(kept + 1))
            .is_ok()
    }

    pub(crate) fn keep_no_longer(&self) {
        self.shared.kept.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn give_decompressor(&self, mut context: Box<Decompressor>) {
        context.reset();
        let mut idle = lock(&self.shared.decompressors);
        if idle.len() < self.shared.options.idle_decompressors {
            idle.push(context);
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(PoolOptions::default())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// Takes the lock. No operation under it panics half-way, so the data guarded by a poisoned lock is intact.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(level: u8, bits: u8) -> ContextKind {
        ContextKind { level: Level::new(level).unwrap(), window_bits: WindowBits::new(bits).unwrap() }
    }

    #[test]
    fn lends_what_was_given_back_to_the_same_kind_only() {
        let pool = Pool::default();
        let first = pool.take_compressor(kind(1, 15));
        pool.give_compressor(kind(1, 15), first);
        for other in [kind(1, 14), kind(2, 15)] {
            let context = pool.take_compressor(other);
            assert_eq!(pool.idle_compressors(), 1);
            drop(context);
        }
        let _taken = pool.take_compressor(kind(1, 15));
        assert_eq!(pool.idle_compressors(), 0);
    }

    #[test]
    fn keeps_no_more_than_set_and_the_latest_of_them() {
        let pool = Pool::new(
            PoolOptions::default()
                .with_idle_compressors(2)
                .with_idle_decompressors(1)
                .with_kept_decompressors(0),
        );
        for kind in [kind(1, 9), kind(1, 10), kind(1, 11)] {
            pool.give_compressor(kind, pool.take_compressor(kind));
        }
        assert_eq!(pool.idle_compressors(), 2);
        drop(pool.take_compressor(kind(1, 9)));
        assert_eq!(pool.idle_compressors(), 2, "the oldest is gone");
        let two = [pool.take_decompressor(), pool.take_decompressor()];
        for context in two {
            pool.give_decompressor(context);
        }
        assert_eq!(pool.idle_decompressors(), 1);
    }

    #[test]
    fn may_be_set_to_keep_nothing() {
        let pool = Pool::new(
            PoolOptions::default()
                .with_idle_compressors(0)
                .with_idle_decompressors(0)
                .with_kept_decompressors(0),
        );
        pool.give_compressor(kind(1, 9), pool.take_compressor(kind(1, 9)));
        pool.give_decompressor(pool.take_decompressor());
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (0, 0));
    }
}
