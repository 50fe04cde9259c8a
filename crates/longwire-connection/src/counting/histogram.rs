//! A histogram that many threads add to, with buckets by size.
//!
//! Owns the buckets and how they are read. The caller decides what is measured, and in which unit.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts of values in buckets that double: 0, 1, 2 to 3, 4 to 7, and so on.
///
/// Adding a value is one atomic operation on memory that few threads share. Nothing is locked or allocated. A
/// histogram takes about 4 KiB.
///
/// # Examples
///
/// ```
/// use longwire_connection::Histogram;
///
/// let sizes = Histogram::default();
/// for size in [0, 5, 7, 900] {
///     sizes.record(size);
/// }
/// let counts = sizes.snapshot();
/// assert_eq!(counts.count(), 4);
/// assert_eq!(counts.buckets().collect::<Vec<_>>(), [(0, 1), (7, 2), (1023, 1)]);
/// assert_eq!(counts.quantile(0.5), Some(7));
/// ```
#[derive(Default)]
pub struct Histogram {
    shards: [Shard; SHARDS],
}

/// The counts of some of the threads, on separate cache lines: adding to a line that another core holds takes ten
/// times as long.
#[repr(align(128))]
struct Shard([AtomicU64; BUCKETS]);

impl Default for Shard {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Histogram {
    /// Adds one value.
    #[inline]
    pub fn record(&self, value: u64) {
        if let Some(bucket) = self.shards[shard()].0.get(bucket_of(value)) {
            // No ordering is needed: each count is read independently.
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the current counts.
    pub fn snapshot(&self) -> HistogramCounts {
        let mut counts = [0; BUCKETS];
        for shard in &self.shards {
            for (count, more) in counts.iter_mut().zip(&shard.0) {
                *count += more.load(Ordering::Relaxed);
            }
        }
        HistogramCounts { counts }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// The counts of a [`Histogram`] at one time. `+=` adds those of another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HistogramCounts {
    counts: [u64; BUCKETS],
}

impl HistogramCounts {
    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the non-empty buckets, smallest first: the greatest value of each bucket, and the number of values
    /// in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let numbered = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        numbered.map(|(bucket, count)| (greatest_of(bucket), *count))
    }

    /// Returns an upper bound of at least this part of all values: 0.5 for the median, 0.99 for the slowest in a
    /// hundred. The bound is the end of a bucket, less than twice the exact quantile. Returns `None` without
    /// values.
    #[allow(clippy::cast_precision_loss, reason = "a bucket more or less at 2^53 values")]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let wanted = self.count() as f64 * part.clamp(0.0, 1.0);
        let mut count = 0;
        let mut last = None;
        for (greatest, more) in self.buckets() {
            last = Some(greatest);
            count += more;
            if count as f64 >= wanted {
                break;
            }
        }
        last
    }
}

impl Default for HistogramCounts {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl std::ops::AddAssign for HistogramCounts {
    fn add_assign(&mut self, more: Self) {
        for (count, more) in self.counts.iter_mut().zip(more.counts) {
            *count += more;
        }
    }
}

impl fmt::Debug for HistogramCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

/// Returns the bucket of a value: its number of bits, at most 47. The last bucket is for values from 2^46 on, which is
/// 19.5 hours in nanoseconds.
#[inline]
fn bucket_of(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    (bits as usize).min(BUCKETS - 1)
}

fn greatest_of(bucket: usize) -> u64 {
    if bucket == BUCKETS - 1 { u64::MAX } else { (1 << bucket) - 1 }
}

/// Returns the shard that this thread adds to.
#[inline]
fn shard() -> usize {
    thread_local! {
        /// The number of the shard, from 1; 0 before the first value.
        static SHARD: Cell<usize> = const { Cell::new(0) };
    }
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    // A thread that is exiting no longer has its thread-local.
    let number = SHARD.try_with(|shard| {
        if shard.get() == 0 {
            shard.set(1 + THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get() - 1
    });
    number.unwrap_or(0) % SHARDS
}

/// With 48 buckets, a shard takes three lines of 128 bytes.
const BUCKETS: usize = 48;

const SHARDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_with_those_of_their_length() {
        for (value, greatest) in [
            (0, 0),
            (1, 1),
            (2, 3),
            (3, 3),
            (4, 7),
            (1023, 1023),
            (1024, 2047),
            ((1 << 46) - 1, (1 << 46) - 1),
            (1 << 46, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let histogram = Histogram::default();
            histogram.record(value);
            let buckets: Vec<_> = histogram.snapshot().buckets().collect();
            assert_eq!(buckets, [(greatest, 1)], "{value}");
        }
    }

    #[test]
    fn quantiles_are_the_ends_of_buckets() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for value in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1000] {
            histogram.record(value);
        }
        let mut counts = histogram.snapshot();
        for (part, value) in
            [(-1.0, 1), (0.0, 1), (0.5, 1), (0.9, 1), (0.91, 1023), (1.0, 1023), (f64::MAX, 1023)]
        {
            assert_eq!(counts.quantile(part), Some(value), "{part}");
        }
        counts += counts;
        assert_eq!((counts.count(), counts.quantile(0.9)), (20, Some(1)));
    }

    #[test]
    fn no_value_of_any_thread_is_lost() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for thread in 0..2 * SHARDS as u64 {
                let histogram = &histogram;
                scope.spawn(move || (0..1000).for_each(|_| histogram.record(thread)));
            }
        });
        assert_eq!(histogram.snapshot().count(), 2 * SHARDS as u64 * 1000);
    }

    #[test]
    fn it_takes_what_it_says() {
        assert!(size_of::<Histogram>() <= 4096, "{}", size_of::<Histogram>());
    }
}
