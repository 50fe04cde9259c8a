//! What a server counts: of handshakes itself, of clients what its hub does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use longwire_connection::{Histogram, HistogramCounts, MeasurementCounts, Stats};
use longwire_hub::HubStats;

use crate::metrics;

/// What a server has counted since it was made; see [`ServerHandle::stats`](crate::ServerHandle::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Clients, rooms and broadcasts.
    pub hub: HubStats,
    /// What has gone through the connections of all clients, those who have left included.
    pub traffic: Stats,
    /// With which close codes how many clients have left; see [`Hub::close_codes`](longwire_hub::Hub::close_codes).
    pub close_codes: BTreeMap<u16, u64>,
    /// How many requests were refused with which status. Those of a server too busy for more handshakes are among the 503.
    pub rejections: BTreeMap<u16, u64>,
    /// How long handshakes took that were completed, from the connection to the answer, in microseconds.
    pub handshakes: HistogramCounts,
    /// The lengths of messages and the time that answers to keepalive pings took, if
    /// [`Config::measurements`](longwire_connection::Config::measurements) of
    /// [`ServerConfig::connection`](crate::ServerConfig::connection) is set; else nothing.
    pub measurements: MeasurementCounts,
}

/// What handshakes add to.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handshakes: Histogram,
    // Of a thousand statuses at most.
    rejections: Mutex<BTreeMap<u16, u64>>,
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
