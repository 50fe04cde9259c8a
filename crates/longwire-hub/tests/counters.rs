//! The counters that a hub passes on to the recorder.
#![cfg(feature = "metrics")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_connection::Config;
use longwire_connection::testing::{duplex, pair, pair_over};
use longwire_hub::{ClientInfo, Hub, HubConfig, SlowPolicy};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::time::timeout;

/// Counters by name and label.
#[derive(Default)]
struct Recorded(Mutex<BTreeMap<String, Arc<Count>>>);

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, _: u64) {
        unreachable!("the hub counts");
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let name = key.labels().fold(key.name().to_owned(), |name, label| name + " " + label.value());
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Recorded {
    /// Returns the counters that are not zero.
    fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap();
        let counts = counts.iter().map(|(name, count)| (name.clone(), count.0.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Admits a client that sends and receives, five that are closed, and one that is slow; refuses one.
async fn visit(recorded: &Recorded) {
    let sent = || recorded.counts()["longwire_messages_sent_total"];
    let hub = Hub::new(HubConfig::default().with_slow(SlowPolicy::Close).with_queue(1).with_max_clients(1));
    let admit = || {
        let (client, server) = pair(Config::default());
        (client, hub.admit(server, ClientInfo::default()))
    };
    let (mut client, socket) = admit();
    let mut socket = socket.unwrap();
    admit().1.unwrap_err();
    client.send("hello").await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), Some("hello".into()));
    // A message is counted once the socket waits for the next one.
    timeout(Duration::from_millis(1), socket.recv()).await.unwrap_err();
    hub.broadcast("hub");
    hub.report_traffic();
    hub.report_traffic();
    assert_eq!(sent(), 1);
    hub.broadcast("hub");
    hub.report_traffic_in_turns().await;
    hub.report_traffic_in_turns().await;
    assert_eq!(sent(), 2);
    drop(socket);

    for code in [1000, 3000, 3999, 4000, 4999] {
        let (_client, socket) = admit();
        socket.unwrap().start_close(code, "").unwrap();
    }

    let (client, server) = duplex(1);
    let (_client, server) = pair_over(client, server, &Config::default());
    let _slow = hub.admit(server, ClientInfo::default()).unwrap();
    for dropped in [0, 1, 0] {
        assert_eq!(hub.broadcast("too much").dropped, dropped);
    }
}

#[test]
fn each_event_is_counted_once() {
    let recorded = Recorded::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorded, || runtime.block_on(visit(&recorded)));
    let expected = [
        ("longwire_broadcasts_dropped_total", 1),
        ("longwire_bytes_received_total", 11),
        ("longwire_bytes_sent_total", 5 + 5),
        ("longwire_connections_closed_total 1000", 2),
        ("longwire_connections_closed_total 1013", 1),
        ("longwire_connections_closed_total 3xxx", 2),
        ("longwire_connections_closed_total 4xxx", 2),
        ("longwire_connections_opened_total", 7),
        ("longwire_connections_refused_total", 1),
        ("longwire_messages_received_total", 1),
        ("longwire_messages_sent_total", 2),
        ("longwire_slow_clients_closed_total", 1),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    assert_eq!(recorded.counts(), expected);
}
