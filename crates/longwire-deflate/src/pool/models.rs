//! Loom models of a pool that several threads share. `cargo xtask loom` runs them. The comment on each model names a
//! fault of the code with which the model was seen to fail.

use std::sync::atomic::AtomicUsize as Count;

use loom::thread::spawn;

use super::*;

const KIND: ContextKind = ContextKind { level: Level::FASTEST, window_bits: WindowBits::MAX };

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Two threads borrow contexts while a third frees those that were not needed. Fails if a context is counted only after
/// it is on its shelf, or if those that are freed are not counted.
#[test]
fn every_idle_context_is_counted() {
    model(|| {
        let pool = Pool::new(PoolOptions::default().with_idle_compressors(1));
        let threads = [1, 2].map(|times| {
            let pool = pool.clone();
            spawn(move || {
                for _ in 0..times {
                    pool.give_compressor(KIND, pool.take_compressor(KIND));
                    assert!(pool.idle_compressors() <= 1);
                    assert!(pool.shared.idle.load(Ordering::Relaxed) <= 3, "it never falls below zero");
                }
            })
        });
        if let Some(mut sweeper) = pool.sweeper() {
            sweeper.sweep();
            sweeper.sweep();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(pool.shared.idle.load(Ordering::Relaxed), pool.idle_compressors());
        // As for a connection that is polled from now on.
        while let Some(mut sweeper) = pool.sweeper() {
            sweeper.sweep();
        }
        assert_eq!(pool.idle_compressors(), 0);
    });
}

/// Three threads want to keep a compressor, and one of them may at a time. Fails if the count is read and
/// written in two steps.
#[test]
fn no_more_are_kept_than_may_be() {
    model(|| {
        let pool = Pool::new(PoolOptions::default().with_kept_compressors(1));
        let kept = Arc::new(Count::new(0));
        let keep = |pool: Pool, kept: Arc<Count>| {
            move || {
                if pool.keep_compressor() {
                    assert_eq!(kept.fetch_add(1, Ordering::Relaxed), 0);
                    // Another thread may run here.
                    drop(lock(&pool.shared.compressors));
                    kept.fetch_sub(1, Ordering::Relaxed);
                    pool.keep_compressor_no_longer();
                }
            }
        };
        let threads = [(); 2].map(|()| spawn(keep(pool.clone(), Arc::clone(&kept))));
        keep(pool.clone(), kept)();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(pool.keep_compressor(), "all of them were given back");
        assert!(!pool.keep_compressor());
    });
}

/// Three threads want the sweeper. Fails if one looks whether there is a sweeper and takes it in two steps.
#[test]
fn there_is_one_sweeper() {
    model(|| {
        let pool = Pool::default();
        pool.give_compressor(KIND, pool.take_compressor(KIND));
        let sweepers = Arc::new(Count::new(0));
        let sweep = |pool: Pool, sweepers: Arc<Count>| {
            move || {
                if let Some(mut sweeper) = pool.sweeper() {
                    assert_eq!(sweepers.fetch_add(1, Ordering::Relaxed), 0);
                    sweeper.sweep();
                    sweepers.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        let threads = [(); 2].map(|()| spawn(sweep(pool.clone(), Arc::clone(&sweepers))));
        sweep(pool.clone(), sweepers)();
        for thread in threads {
            thread.join().unwrap();
        }
        while let Some(mut sweeper) = pool.sweeper() {
            sweeper.sweep();
        }
        assert_eq!(pool.idle_compressors(), 0, "the sweeper was given back");
    });
}
