//! A histogram of times, with buckets a thirty-second of the time wide: millions of them in a few kilobytes.

use std::time::Duration;

/// The number of times seen in each bucket.
#[derive(Default)]
pub(crate) struct Latency {
    counts: Vec<u64>,
    total: u64,
}

impl Latency {
    pub(crate) fn add(&mut self, time: Duration) {
        let bucket = bucket(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Returns the time in microseconds, rounded down to its bucket, that `part` of all times do not exceed.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        #[allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
        let wanted = part * self.total as f64;
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            #[allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
            let enough = seen > 0 && seen as f64 >= wanted;
            enough
        });
        reached.map_or(0, least)
    }
}

/// Returns the bucket of a time: its highest five bits after the leading one, and the number of bits that follow.
fn bucket(micros: u64) -> usize {
    let shift = (micros | 32).ilog2() - 5;
    shift as usize * 32 + usize::try_from(micros >> shift).unwrap_or(usize::MAX)
}

/// Returns the shortest time of a bucket.
fn least(bucket: usize) -> u64 {
    match bucket / 32 {
        0 | 1 => bucket as u64,
        group => (bucket as u64 % 32 + 32) << (group - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_at_most_a_thirty_second_above_its_bucket() {
        for micros in [0, 1, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 65_535, 1 << 40, u64::MAX] {
            let least = least(bucket(micros));
            assert!(least <= micros && micros - least <= micros / 32, "{micros}: {least}");
        }
    }

    #[test]
    fn quantiles_of_a_hundred_times() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), 0);
        for micros in (0..100).rev() {
            latency.add(Duration::from_micros(micros / 2));
        }
        for (part, expected) in [(0.0, 0), (0.5, 24), (0.99, 49), (1.0, 49)] {
            assert_eq!(latency.quantile(part), expected, "{part}");
        }
    }
}
