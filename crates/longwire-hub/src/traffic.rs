//! What has gone through all clients of a hub, those who have left included, and how they left.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use longwire_connection::{CloseCode, Stats};

use crate::Hub;
use crate::entry::Entry;

/// Of the clients that have left.
#[derive(Default)]
pub(crate) struct Departed {
    traffic: Stats,
    count: u64,
    // Of 5000 codes at most.
    codes: BTreeMap<u16, u64>,
}

impl Departed {
    /// How many have left, the last of whom this is.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

impl Hub {
    /// What has gone through all clients since the hub was made: those who have left, and those who are here. It looks at
    /// each of these, which takes some 20 ms for 100 000; meanwhile others can come, leave and send.
    ///
    /// What of the messages received came compressed is not told.
    pub fn traffic(&self) -> Stats {
        // First, so that nobody leaves between the two unseen.
        let clients = self.clients();
        let departed = self.departed();
        let (mut sum, left) = (departed.traffic, departed.count);
        drop(departed);
        for client in clients.iter() {
            // Those who leave from here on are not in the sum of the departed yet.
            match client.entry.departure() {
                0 => sum += client.sender().stats(),
                departure if departure > left => sum += without_queue(client.sender().stats()),
                _ => {}
            }
        }
        sum
    }

    /// With which close codes how many clients have left, since the hub was made.
    ///
    /// It is the code that was sent to the client, which repeats the client's own if that closed first: 1005 for a close
    /// without one, and 1006 for a connection that ended without (RFC 6455 §7.4.1).
    pub fn close_codes(&self) -> BTreeMap<u16, u64> {
        self.departed().codes.clone()
    }

    pub(crate) fn departed(&self) -> MutexGuard<'_, Departed> {
        // Nothing that can panic leaves it half changed.
        self.inner.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Counts this client among those who have left; returns the code with which it has.
    pub(crate) fn depart(&self, departed: &mut Departed) -> CloseCode {
        departed.traffic += without_queue(self.sender.stats());
        departed.count += 1;
        let code = match self.sender.close_sent() {
            None => CloseCode::ABNORMAL_CLOSURE,
            Some(None) => CloseCode::NO_STATUS_RECEIVED,
            Some(Some(frame)) => frame.code,
        };
        *departed.codes.entry(code.into()).or_default() += 1;
        code
    }
}

/// What is left of a client's counts when it has left: nothing waits any more.
fn without_queue(stats: Stats) -> Stats {
    let mut stats = stats;
    stats.bytes_queued = 0;
    stats
}
