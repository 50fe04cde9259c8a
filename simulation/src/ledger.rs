//! The record of the server, to compare with those of the clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire::hub::ClientHandle;
use longwire::{Delivery, connection};

/// The record of a server.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    records: Arc<Mutex<Records>>,
}

/// The last number of each source in each room.
pub(crate) type Numbers = BTreeMap<(String, String), u64>;

#[derive(Default)]
pub(crate) struct Records {
    /// The numbers that each client has sent to be noted, in the order of their arrival.
    pub(crate) noted: BTreeMap<usize, Vec<u64>>,
    pub(crate) published: Numbers,
    /// The hub's handles of the connections of each client.
    pub(crate) handles: BTreeMap<usize, Vec<ClientHandle>>,
    /// The sums of what the hub has reported for publications.
    pub(crate) accepted: u64,
    pub(crate) dropped: u64,
    /// Errors that no network can cause.
    pub(crate) violations: Vec<String>,
}

impl Ledger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// Returns the next number that a source publishes in a room.
    pub(crate) fn next(&mut self, source: &str, room: &str) -> u64 {
        let last = self.published.entry((source.to_owned(), room.to_owned())).or_default();
        *last += 1;
        *last
    }

    pub(crate) fn count(&mut self, delivery: Delivery) {
        self.accepted += delivery.accepted as u64;
        self.dropped += delivery.dropped as u64;
    }

    /// Records an error that a connection must not end with, whatever the network does: it changes no byte.
    pub(crate) fn check(&mut self, whose: &str, error: &connection::Error) {
        use connection::Error;
        if matches!(error, Error::Protocol(_) | Error::RateExceeded | Error::NotText | Error::Invalid(_)) {
            self.violations.push(format!("{whose}: {error:?}"));
        }
    }
}
