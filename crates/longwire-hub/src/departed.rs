//! Totals of the clients that have left, and the close codes with which they left.

use std::collections::BTreeMap;

use longwire_connection::{CloseCode, Stats};

/// Totals of the clients that have left.
#[derive(Default)]
pub(crate) struct Departed {
    traffic: Stats,
    count: u64,
    // At most 5000 codes.
    codes: BTreeMap<u16, u64>,
}

impl Departed {
    /// Adds a client that leaves.
    pub(crate) fn add(&mut self, traffic: Stats, code: CloseCode) {
        self.traffic += without_queue(traffic);
        self.count += 1;
        *self.codes.entry(code.into()).or_default() += 1;
    }

    pub(crate) fn traffic(&self) -> Stats {
        self.traffic
    }

    pub(crate) fn codes(&self) -> &BTreeMap<u16, u64> {
        &self.codes
    }

    /// Returns the number of clients that have left, which numbers the latest departure.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// Returns the counts of a client that has left: nothing is queued for it any more.
pub(crate) fn without_queue(stats: Stats) -> Stats {
    let mut stats = stats;
    stats.bytes_queued = 0;
    stats
}
