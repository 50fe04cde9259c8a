//! Histograms over many connections: message sizes and round trips.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Histogram, HistogramCounts};

/// Histograms that connections add to while they run. Clones share them.
///
/// Set this as [`Config::measurements`](crate::Config::measurements) of all connections to be measured. Each
/// message then costs one more atomic operation.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Measurements, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let measurements = Measurements::default();
/// let config = Config::default().with_measurements(measurements.clone());
/// let (mut client, mut server) = pair(config);
/// client.send("hello").await?;
/// server.recv().await?;
/// let counts = measurements.counts();
/// assert_eq!(counts.received.buckets().collect::<Vec<_>>(), [(7, 1)]);
/// assert_eq!(counts.sent, counts.received);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Measurements {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: Histogram,
    sent: Histogram,
    round_trips: Histogram,
}

/// The counts of a [`Measurements`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeasurementCounts {
    /// The lengths of messages received, in bytes, decompressed. Messages received in parts are not included.
    pub received: HistogramCounts,
    /// The lengths of messages sent, in bytes before compression. Messages sent in parts are not included.
    pub sent: HistogramCounts,
    /// The times that peers took to answer a keepalive ping, in microseconds. A peer that sends unsolicited pongs
    /// can make them appear shorter.
    pub round_trips: HistogramCounts,
}

impl Measurements {
    /// Returns the current counts.
    pub fn counts(&self) -> MeasurementCounts {
        let Shared { received, sent, round_trips } = &*self.shared;
        MeasurementCounts {
            received: received.snapshot(),
            sent: sent.snapshot(),
            round_trips: round_trips.snapshot(),
        }
    }
}

/// The histograms that one connection adds to, if any.
pub(crate) struct Measure(pub(crate) Option<Measurements>);

impl Measure {
    #[inline]
    pub(crate) fn received(&self, len: usize) {
        if let Some(measurements) = &self.0 {
            measurements.shared.received.record(len as u64);
        }
    }

    #[inline]
    pub(crate) fn sent(&self, len: usize) {
        if let Some(measurements) = &self.0 {
            measurements.shared.sent.record(len as u64);
        }
    }

    /// Records the time that a keepalive ping took to be answered.
    pub(crate) fn round_trip(&self, took: Option<Duration>) {
        if let (Some(measurements), Some(took)) = (&self.0, took) {
            measurements.shared.round_trips.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Compares identity, not contents.
impl PartialEq for Measurements {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Measurements {}

impl fmt::Debug for Measurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}
