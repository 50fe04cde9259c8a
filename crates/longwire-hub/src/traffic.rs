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
    // Of 5000 codes at most.
    codes: BTreeMap<u16, u64>,
}

impl Hub {
    /// What has gone through all clients since the hub was made: those who have left, and those who are here. It looks at
    /// each of these.
    ///
    /// What of the messages received came compressed is not told.
    pub fn traffic(&self) -> Stats {
        // Nobody leaves meanwhile: each client is on one side.
        let departed = self.departed();
        let mut sum = departed.traffic;
        for client in self.clients().iter().filter(|client| !client.entry.has_left()) {
            sum += client.sender().stats();
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
        let mut traffic = self.sender.stats();
        traffic.bytes_queued = 0;
        departed.traffic += traffic;
        let code = match self.sender.close_sent() {
            None => CloseCode::ABNORMAL_CLOSURE,
            Some(None) => CloseCode::NO_STATUS_RECEIVED,
            Some(Some(frame)) => frame.code,
        };
        *departed.codes.entry(code.into()).or_default() += 1;
        code
    }
}
