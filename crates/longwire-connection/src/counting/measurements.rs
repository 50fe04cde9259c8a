//! What is measured of many connections together: how long messages are, and how far away peers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Histogram, HistogramCounts};

/// Histograms that connections add to while they run; clones are the same ones.
///
/// Set as [`Config::measurements`](crate::Config::measurements) of all connections that it is to measure. A message then costs one
/// atomic operation more.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, Error, Measurements, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let measurements = Measurements::default();
/// let config = Config { measurements: Some(measurements.clone()), ..Config::default() };
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

/// What a [`Measurements`] has at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeasurementCounts {
    /// The lengths of messages received, in bytes, decompressed; those that are received in parts are left out.
    pub received: HistogramCounts,
    /// The lengths of messages sent, in bytes before compression; those that are sent in parts are left out.
    pub sent: HistogramCounts,
    /// How long peers took to answer a keepalive ping, in microseconds. A peer that sends pongs without being asked can
    /// make this shorter than it is.
    pub round_trips: HistogramCounts,
}

impl Measurements {
    /// The counts as they are now.
    pub fn counts(&self) -> MeasurementCounts {
        let Shared { received, sent, round_trips } = &*self.shared;
        MeasurementCounts {
            received: received.snapshot(),
            sent: sent.snapshot(),
            round_trips: round_trips.snapshot(),
        }
    }
}

/// What one connection adds to, if anything.
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

    /// Takes the answer to a keepalive ping, which is one without a payload.
    pub(crate) fn round_trip(&self, took: Option<Duration>) {
        if let (Some(measurements), Some(took)) = (&self.0, took) {
            measurements.shared.round_trips.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

/// Whether two are the same, not whether they are alike.
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
