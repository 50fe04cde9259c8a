//! The traffic of all clients of a hub, including those that have left, and the close codes with which they left.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use longwire_connection::{CloseCode, Stats};

use crate::Hub;
use crate::entry::Entry;

/// Totals of the clients that have left.
#[derive(Default)]
pub(crate) struct Departed {
    traffic: Stats,
    count: u64,
    // At most 5000 codes.
    codes: BTreeMap<u16, u64>,
}

impl Departed {
    /// Returns the number of clients that have left, which numbers the latest departure.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Hub {
    /// Returns the traffic of all clients since the hub was made, those that have left and those that are
    /// connected. It visits each connected client, which takes some 20 ms for 100 000; others can come, leave and
    /// send meanwhile.
    ///
    /// The compressed part of the messages received is not included: only the receiving half of a connection knows it.
    pub fn traffic(&self) -> Stats {
        // Taken first, so that no client that leaves in between is missed.
        let clients = self.clients();
        let departed = self.departed();
        let (mut sum, left) = (departed.traffic, departed.count);
        drop(departed);
        for client in clients.iter() {
            // Clients that leave from here on are not yet in the sum of the departed.
            match client.entry.departure() {
                0 => sum += client.sender().stats(),
                departure if departure > left => sum += without_queue(client.sender().stats()),
                _ => {}
            }
        }
        sum
    }

    /// Returns the number of clients that have left, by close code, since the hub was made.
    ///
    /// The code is the one sent to the client, which repeats the client's own code if the client closed first:
    /// 1005 for a close frame without a code, and 1006 for a connection that ended without a close frame (RFC
    /// 6455 §7.4.1).
    pub fn close_codes(&self) -> BTreeMap<u16, u64> {
        self.departed().codes.clone()
    }

    pub(crate) fn departed(&self) -> MutexGuard<'_, Departed> {
        // No panic can leave it half changed.
        self.inner.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Adds this client to the totals of those that have left; returns the code with which it left.
    pub(crate) fn depart(&self, departed: &mut Departed) -> CloseCode {
        departed.traffic += without_queue(self.sender.stats());
        departed.count += 1;
        let code = self.sender.close_sent().map_or(CloseCode::ABNORMAL_CLOSURE, |frame| frame.code);
        *departed.codes.entry(code.into()).or_default() += 1;
        code
    }
}

/// Returns the counts of a client that has left: nothing is queued for it any more.
fn without_queue(stats: Stats) -> Stats {
    let mut stats = stats;
    stats.bytes_queued = 0;
    stats
}
