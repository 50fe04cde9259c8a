//! The traffic of all clients of a hub, including those that have left.

use std::collections::BTreeMap;
#[cfg(feature = "metrics")]
use std::sync::PoisonError;

use longwire_connection::Stats;

use crate::departed::without_queue;
use crate::entry::ClientHandle;
use crate::members::Snapshot;
#[cfg(feature = "metrics")]
use crate::metrics;
use crate::registry::Hub;
#[cfg(feature = "metrics")]
use crate::waiting::give_way;

impl Hub {
    /// Returns the traffic of all clients since the hub was made, those that have left and those that are
    /// connected. It visits each connected client, which takes some 20 ms for 100 000; others can come, leave and
    /// send meanwhile.
    ///
    /// The compressed part of the messages received is not included: only the receiving half of a connection knows it.
    pub fn traffic(&self) -> Stats {
        let (clients, mut sum) = self.begin_sum();
        clients.iter().for_each(|client| sum.add(client));
        sum.total
    }

    /// Returns the clients to sum up, and the sum without them.
    fn begin_sum(&self) -> (Snapshot<ClientHandle>, Sum) {
        // Taken first, so that no client that leaves in between is missed.
        let clients = self.snapshot();
        let departed = self.departed();
        let sum = Sum { total: departed.traffic(), left: departed.count() };
        drop(departed);
        (clients, sum)
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
    /// It visits every client, as [`traffic`](Self::traffic) does. Longwire's own server calls it when it ends, and
    /// reports every 10 s in a task that yields after each 256 clients; with a hub of your own, call it before the
    /// recorder is read.
    #[cfg(feature = "metrics")]
    pub fn report_traffic(&self) {
        self.report(&self.traffic());
    }

    /// Reports as [`report_traffic`](Self::report_traffic) does, and yields after each 256 clients.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the next report includes what this one would have reported.
    #[cfg(feature = "metrics")]
    #[doc(hidden)]
    pub async fn report_traffic_in_turns(&self) {
        let (clients, mut sum) = self.begin_sum();
        for (index, client) in clients.iter().enumerate() {
            give_way(index).await;
            sum.add(client);
        }
        self.report(&sum.total);
    }

    /// Reports what of this traffic was not reported.
    #[cfg(feature = "metrics")]
    fn report(&self, now: &Stats) {
        let mut reported = self.inner.reported.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::traffic(now, &reported);
        // Another call may have begun later and ended earlier.
        let keep = |reported: &mut u64, now: u64| *reported = now.max(*reported);
        keep(&mut reported.messages_received, now.messages_received);
        keep(&mut reported.messages_sent, now.messages_sent);
        keep(&mut reported.bytes_received, now.bytes_received);
        keep(&mut reported.bytes_sent, now.bytes_sent);
    }
}

/// A sum over clients, those that have left and those that are added.
struct Sum {
    total: Stats,
    /// The number of clients that had left when the sum was begun.
    left: u64,
}

impl Sum {
    fn add(&mut self, client: &ClientHandle) {
        // Clients that have left since are not yet in the sum of the departed.
        match client.entry.departure() {
            0 => self.total += client.sender().stats(),
            departure if departure > self.left => self.total += without_queue(client.sender().stats()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use longwire_connection::Config;
    use longwire_connection::testing::pair;

    use super::*;
    use crate::info::ClientInfo;

    #[test]
    fn a_client_that_leaves_is_counted_once() {
        let hub = Hub::default();
        let admit = || {
            let (peer, server) = pair(Config::default());
            (peer, hub.admit(server, ClientInfo::default()).expect("it is open"))
        };
        let (_peer, leaving) = admit();
        let (_other_peer, _other) = admit();
        hub.broadcast("to both");
        let (clients, mut before) = hub.begin_sum();
        drop(leaving);
        // As if it had left between the two steps of this sum.
        let (_, mut after) = hub.begin_sum();
        for sum in [&mut before, &mut after] {
            clients.iter().for_each(|client| sum.add(client));
            assert_eq!(sum.total.messages_sent, 2);
        }
    }
}
