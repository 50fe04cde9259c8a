//! The traffic of all clients of a hub, including those that have left.

use std::collections::BTreeMap;
#[cfg(feature = "metrics")]
use std::sync::PoisonError;

use longwire_connection::Stats;

use crate::departed::without_queue;
#[cfg(feature = "metrics")]
use crate::metrics;
use crate::registry::Hub;

impl Hub {
    /// Returns the traffic of all clients since the hub was made, those that have left and those that are
    /// connected. It visits each connected client, which takes some 20 ms for 100 000; others can come, leave and
    /// send meanwhile.
    ///
    /// The compressed part of the messages received is not included: only the receiving half of a connection knows it.
    pub fn traffic(&self) -> Stats {
        // Taken first, so that no client that leaves in between is missed.
        let clients = self.snapshot();
        let departed = self.departed();
        let (mut sum, left) = (departed.traffic(), departed.count());
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
        self.departed().codes().clone()
    }

    /// Reports the messages and bytes received and sent since the last call to the recorder of the `metrics` crate.
    ///
    /// It visits every client, as [`traffic`](Self::traffic) does. Longwire's own server calls it every 10 s and
    /// when the server ends; with a hub of your own, call it before the recorder is read.
    #[cfg(feature = "metrics")]
    pub fn report_traffic(&self) {
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.traffic();
        metrics::traffic(&now, &reported);
        *reported = now;
    }
}
