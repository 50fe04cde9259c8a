//! Compressors and decompressors that connections share.
//!
//! Owns the number of idle contexts, and ensures that each is handed out in its initial state. When one is needed
//! belongs to `deflater.rs` and `inflater.rs`; how often unused ones are freed, to the caller, which has a clock.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, PoisonError},
};

use flate2::{Compress, Compression};

use crate::{
    Level, WindowBits,
    decompressor::Decompressor,
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering},
};

/// The store from which connections borrow compressors and decompressors, and to which they give them back.
///
/// A compressor takes 250 to 380 KiB and a decompressor 48, so they are created when a message needs one and none is
/// idle, and shared by all clones of the pool. Clones are cheap and share one store. A lock is held only while taking
/// or giving back, never while compressing.
///
/// # Size
///
/// The pool has as many contexts as were in use at once, up to the bounds in [`PoolOptions`]: while messages follow
/// each other, none is freed and created again. A [`Sweeper`] frees those that were not needed for some time.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

/// The bounds of a [`Pool`]: of the contexts that wait for their next use, and of those that connections keep between
/// messages.
///
/// They bound the memory of all connections together, whatever their number. In addition, each message that is being
/// compressed or decompressed, or that is sent or received in parts, holds one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// The most compressors that wait in the pool, of all levels and windows together; those given back beyond that are
    /// freed. Default: 16, for 6 MiB at most. Set at least the number of threads that compress: a thread that finds no
    /// compressor creates one, which takes 5 µs and some 90 page faults.
    pub idle_compressors: usize,

    /// The most decompressors that wait in the pool. Default: 64, for 3 MiB at most: more than compressors, because a
    /// message that arrives in parts holds one until its end.
    pub idle_decompressors: usize,

    /// The most connections with context takeover that may hold a compressor between their messages, until they are
    /// parked. Default: 16, for 6 MiB at most. The others borrow one for each message and load the end of their window
    /// again: see [`Deflater::park`](crate::Deflater::park).
    ///
    /// A larger number rarely pays: a message touches a kept compressor in some thousand places, and the compressors of
    /// more than some ten connections displace each other from the processor's caches. With 64 connections that send
    /// 1 KiB of JSON in turn, a message takes about twice as long with compressors of their own as with borrowed ones.
    pub kept_compressors: usize,

    /// The most connections with context takeover that may hold a decompressor between their messages, until they are
    /// parked. Default: 64, for 3 MiB. The others borrow one for each message and load the window again, which takes a
    /// microsecond.
    pub kept_decompressors: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { idle_compressors: 16, idle_decompressors: 64, kept_compressors: 16, kept_decompressors: 64 }
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

    /// Sets [`kept_compressors`](Self::kept_compressors).
    #[must_use]
    pub fn with_kept_compressors(mut self, kept_compressors: usize) -> Self {
        self.kept_compressors = kept_compressors;
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
    compressors: Mutex<Shelf<(ContextKind, Box<Compress>)>>,
    decompressors: Mutex<Shelf<Box<Decompressor>>>,
    /// Connections that hold a compressor between their messages.
    compressors_kept: AtomicUsize,
    /// Connections that hold a decompressor between their messages.
    decompressors_kept: AtomicUsize,
    /// Set while there is a [`Sweeper`].
    is_swept: AtomicBool,
    /// The number of contexts on both shelves, as of the last change: a hint that is read without a lock.
    idle: AtomicUsize,
}

/// Idle contexts, all of them reset, the longest idle first.
struct Shelf<T> {
    contexts: VecDeque<T>,
    /// The smallest number of contexts since the last sweep: so many were not needed.
    least: usize,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { contexts: VecDeque::new(), least: 0 }
    }
}

impl<T> Shelf<T> {
    /// Takes the most recent one that is suitable: it is the most likely to be in the processor's caches.
    fn take(&mut self, is_suitable: impl Fn(&T) -> bool) -> Option<T> {
        let found = self.contexts.iter().rposition(is_suitable).and_then(|at| self.contexts.remove(at));
        self.least = self.least.min(self.contexts.len());
        found
    }

    /// Adds one. If there are `most` already, it takes the place of the longest idle one, which is returned: a kind
    /// that is no longer used cannot fill the shelf.
    fn give(&mut self, context: T, most: usize) -> Option<T> {
        if self.contexts.len() < most {
            self.contexts.push_back(context);
            return None;
        }
        let Some(oldest) = self.contexts.pop_front() else { return Some(context) };
        self.contexts.push_back(context);
        // One that was idle all the time is gone, and this one was not.
        self.least = self.least.saturating_sub(1);
        Some(oldest)
    }

    /// Removes as many as were not needed since the last sweep, the longest idle first.
    fn sweep(&mut self) -> VecDeque<T> {
        let kept = self.contexts.split_off(self.least.min(self.contexts.len()));
        let unused = std::mem::replace(&mut self.contexts, kept);
        self.least = self.contexts.len();
        unused
    }
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
                compressors_kept: AtomicUsize::new(0),
                decompressors_kept: AtomicUsize::new(0),
                is_swept: AtomicBool::new(false),
                idle: AtomicUsize::new(0),
            }),
        }
    }

    /// Returns the number of idle compressors.
    pub fn idle_compressors(&self) -> usize {
        lock(&self.shared.compressors).contexts.len()
    }

    /// Returns the number of idle decompressors.
    pub fn idle_decompressors(&self) -> usize {
        lock(&self.shared.decompressors).contexts.len()
    }

    /// Returns the sweeper, which frees idle contexts; `None` if there are none, or another caller has the sweeper.
    ///
    /// This takes no lock unless it succeeds, so it can be called after each message.
    pub fn sweeper(&self) -> Option<Sweeper> {
        let shared = &*self.shared;
        if shared.idle.load(Ordering::Relaxed) == 0
            || shared.is_swept.load(Ordering::Relaxed)
            || shared.is_swept.swap(true, Ordering::Relaxed)
        {
            return None;
        }
        Some(Sweeper { pool: self.clone() })
    }

    pub(crate) fn take_compressor(&self, kind: ContextKind) -> Box<Compress> {
        match self.take(&self.shared.compressors, |(of, _)| *of == kind) {
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
        self.give(&self.shared.compressors, (kind, context), self.shared.options.idle_compressors);
    }

    #[allow(clippy::unnecessary_box_returns, reason = "who holds one holds a pointer, which many do not")]
    pub(crate) fn take_decompressor(&self) -> Box<Decompressor> {
        self.take(&self.shared.decompressors, |_| true).unwrap_or_else(|| Box::new(Decompressor::new()))
    }

    pub(crate) fn give_decompressor(&self, mut context: Box<Decompressor>) {
        context.reset();
        self.give(&self.shared.decompressors, context, self.shared.options.idle_decompressors);
    }

    fn take<T>(&self, from: &Mutex<Shelf<T>>, is_suitable: impl Fn(&T) -> bool) -> Option<T> {
        let found = lock(from).take(is_suitable);
        self.shared.idle.fetch_sub(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn give<T>(&self, to: &Mutex<Shelf<T>>, context: T, most: usize) {
        // Counted first, so that the number never falls below zero.
        self.shared.idle.fetch_add(1, Ordering::Relaxed);
        let surplus = lock(to).give(context, most);
        self.shared.idle.fetch_sub(usize::from(surplus.is_some()), Ordering::Relaxed);
    }

    /// Returns whether one more connection may hold a compressor between its messages; the connection reports when it
    /// no longer does.
    pub(crate) fn keep_compressor(&self) -> bool {
        keep(&self.shared.compressors_kept, self.shared.options.kept_compressors)
    }

    pub(crate) fn keep_compressor_no_longer(&self) {
        self.shared.compressors_kept.fetch_sub(1, Ordering::Relaxed);
    }

    /// As [`keep_compressor`](Self::keep_compressor), for a decompressor.
    pub(crate) fn keep_decompressor(&self) -> bool {
        keep(&self.shared.decompressors_kept, self.shared.options.kept_decompressors)
    }

    pub(crate) fn keep_decompressor_no_longer(&self) {
        self.shared.decompressors_kept.fetch_sub(1, Ordering::Relaxed);
    }
}

fn keep(kept: &AtomicUsize, most: usize) -> bool {
    kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| (kept < most).then_some(kept + 1)).is_ok()
}

/// The task of freeing the idle contexts of a [`Pool`] that are no longer needed. There is one at a time.
///
/// Its holder calls [`sweep`](Self::sweep) at regular intervals, which are the time that an unused context is kept.
/// When it is dropped, another caller can get it from [`Pool::sweeper`].
///
/// # Examples
///
/// ```
/// use longwire_deflate::{Deflater, Direction, Level, Pool, WindowBits};
///
/// let pool = Pool::default();
/// let direction = Direction { window_bits: WindowBits::MAX, context_takeover: false };
/// let mut deflater = Deflater::new(&pool, direction, Level::FASTEST).unwrap();
/// deflater.compress(b"Hello", &mut Vec::new());
/// let mut sweeper = pool.sweeper().unwrap();
/// assert!(sweeper.sweep(), "it was needed since the pool was made");
/// assert!(!sweeper.sweep(), "it was not needed since then");
/// assert_eq!(pool.idle_compressors(), 0);
/// ```
#[derive(Debug)]
pub struct Sweeper {
    pool: Pool,
}

impl Sweeper {
    /// Frees the contexts that were idle all the time since the pool was last swept, by this sweeper or another one.
    /// Returns whether idle ones are left.
    pub fn sweep(&mut self) -> bool {
        let shared = &*self.pool.shared;
        let compressors = lock(&shared.compressors).sweep();
        let decompressors = lock(&shared.decompressors).sweep();
        let freed = compressors.len() + decompressors.len();
        shared.idle.fetch_sub(freed, Ordering::Relaxed) > freed
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // A swap, because loom cannot tell that a store follows the failed attempts of other threads.
        self.pool.shared.is_swept.swap(false, Ordering::Relaxed);
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

#[cfg(all(test, longwire_loom))]
mod models;

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

    #[test]
    fn contexts_that_were_not_needed_are_freed_and_the_others_stay() {
        let pool = Pool::default();
        assert!(pool.sweeper().is_none(), "there is nothing to sweep");
        let give = |count: usize| {
            let taken: Vec<_> = (0..count).map(|_| pool.take_compressor(kind(1, 9))).collect();
            let decompressors: Vec<_> = (0..count).map(|_| pool.take_decompressor()).collect();
            for context in taken {
                pool.give_compressor(kind(1, 9), context);
            }
            for context in decompressors {
                pool.give_decompressor(context);
            }
        };
        let idle = || (pool.idle_compressors(), pool.idle_decompressors());
        give(5);
        assert_eq!(idle(), (5, 5), "as many as were in use at once");
        let mut sweeper = pool.sweeper().unwrap();
        assert!(pool.sweeper().is_none(), "there is one at a time");
        for _ in 0..100 {
            give(2);
        }
        assert!(sweeper.sweep());
        assert_eq!(idle(), (5, 5), "all were in use at once");
        for _ in 0..100 {
            give(2);
        }
        assert!(sweeper.sweep());
        assert_eq!(idle(), (2, 2), "as many as were in use at once since then");
        give(1);
        drop(sweeper);
        assert_eq!(idle(), (2, 2), "the end of a sweeper frees nothing that was just used");
        let mut sweeper = pool.sweeper().expect("the other is gone");
        assert!(sweeper.sweep(), "one was needed since the last sweep, whoever swept");
        assert_eq!(idle(), (1, 1));
        assert!(!sweeper.sweep());
        assert_eq!(idle(), (0, 0));
        give(1);
        assert!(sweeper.sweep(), "one was given back since");
        drop(sweeper);
        assert!(!pool.sweeper().expect("the other is gone").sweep());
        assert!(pool.sweeper().is_none(), "there is nothing to sweep");
    }

    #[test]
    fn the_bounds_hold_however_many_are_given_back() {
        let pool = Pool::default();
        let taken: Vec<_> = (0..100).map(|_| pool.take_compressor(kind(1, 9))).collect();
        for context in taken {
            pool.give_compressor(kind(1, 9), context);
        }
        let taken: Vec<_> = (0..100).map(|_| pool.take_decompressor()).collect();
        for context in taken {
            pool.give_decompressor(context);
        }
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (16, 64));
        assert_eq!(
            std::iter::repeat_with(|| pool.keep_compressor()).take(1000).take_while(|kept| *kept).count(),
            16
        );
        assert_eq!(
            std::iter::repeat_with(|| pool.keep_decompressor()).take(1000).take_while(|kept| *kept).count(),
            64
        );
    }
}
