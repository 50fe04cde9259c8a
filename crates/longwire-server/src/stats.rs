//! The counts of a server. It counts handshakes itself; its hub counts clients.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use longwire_connection::{Histogram, HistogramCounts, MeasurementCounts, Stats};
use longwire_hub::HubStats;

use crate::metrics;
use crate::overload::Overload;

/// Everything a server has counted since it was created; see [`ServerHandle::stats`](crate::ServerHandle::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Clients, rooms and broadcasts.
    pub hub: HubStats,
    /// The traffic of all connections, including those of clients that have left.
    pub traffic: Stats,
    /// The number of clients that have left, by close code; see
    /// [`Hub::close_codes`](longwire_hub::Hub::close_codes).
    pub close_codes: BTreeMap<u16, u64>,
    /// The number of refused requests, by status. 503 includes clients turned away because there were too many
    /// handshakes.
    pub rejections: BTreeMap<u16, u64>,
    /// The durations of completed handshakes, from the connection to the response, in microseconds.
    pub handshakes: HistogramCounts,
    /// The lengths of messages and the round-trip times of keepalive pings, if
    /// [`Config::measurements`](longwire_connection::Config::measurements) of
    /// [`ServerConfig::connection`](crate::ServerConfig::connection) is set; otherwise empty.
    pub measurements: MeasurementCounts,
}

/// The counters that handshakes update.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handshakes: Histogram,
    // By status, so at most a thousand entries.
    rejections: Mutex<BTreeMap<u16, u64>>,
    pub(crate) overload: Overload,
}

impl Counters {
    pub(crate) fn opened(&self, took: Duration) {
        self.handshakes.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        metrics::opened(took);
    }

    pub(crate) fn rejected(&self, status: StatusCode) {
        let mut rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        *rejections.entry(status.as_u16()).or_default() += 1;
        drop(rejections);
        metrics::rejected(status);
    }

    pub(crate) fn rejections(&self) -> BTreeMap<u16, u64> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
