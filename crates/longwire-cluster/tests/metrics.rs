//! The counts of clusters, as the recorder of the `metrics` crate gets them.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use longwire_cluster::{Backplane, Channel, ClusterOptions, ClusterStats, Memory};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use support::{Shared, TestNode};
use tokio::time::sleep;

/// Records counters and gauges by their names.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, Arc<Value>>>>);

#[derive(Default)]
struct Value(AtomicU64);

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, _: u64) {
        panic!("other hubs count as well");
    }
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        #[allow(clippy::cast_possible_truncation, reason = "a few nodes and rooms")]
        let change = value as i64;
        self.0.fetch_add(change.cast_unsigned(), Ordering::Relaxed);
    }

    fn decrement(&self, value: f64) {
        GaugeFn::increment(self, -value);
    }

    fn set(&self, _: f64) {
        panic!("other hubs count as well");
    }
}

impl Recorded {
    fn value(&self, key: &Key) -> Arc<Value> {
        Arc::clone(self.0.lock().expect("no panic").entry(key.name().to_owned()).or_default())
    }

    fn values(&self) -> BTreeMap<String, u64> {
        let values = self.0.lock().expect("no panic");
        values.iter().map(|(name, value)| (name.clone(), value.0.load(Ordering::Relaxed))).collect()
    }

    /// Returns the values of a cluster's metrics.
    fn of_clusters(&self) -> BTreeMap<String, u64> {
        self.values().into_iter().filter(|(name, _)| name.starts_with("longwire_cluster_")).collect()
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("unknown: {key}");
    }
}

/// Returns the sums of these counts under the names of the metrics.
fn sums(all: &[ClusterStats]) -> BTreeMap<String, u64> {
    let size = |size: usize| size as u64;
    let counts = |of: &ClusterStats| {
        [
            ("messages_published_total", of.published),
            ("bytes_published_total", of.published_bytes),
            ("messages_lost_total", of.lost),
            ("messages_received_total", of.received),
            ("bytes_received_total", of.received_bytes),
            ("messages_overflowed_total", of.overflowed),
            ("gaps_total", of.gaps),
            ("messages_malformed_total", of.malformed),
            ("outages_total", of.outages),
            ("nodes", size(of.nodes)),
            ("subscriptions", size(of.subscriptions)),
        ]
    };
    let mut sums = BTreeMap::new();
    for (name, count) in all.iter().flat_map(counts) {
        *sums.entry(format!("longwire_cluster_{name}")).or_default() += count;
    }
    sums
}

#[tokio::test(start_paused = true)]
async fn the_recorder_has_all_counts() {
    let recorded = Recorded::default();
    let _installed = metrics::set_default_local_recorder(&recorded);
    let broker = Memory::new();
    let link = Arc::new(broker.clone());
    let one = TestNode::new(Shared(Arc::clone(&link)), ClusterOptions::default()).await;
    let other = TestNode::new(broker.clone(), ClusterOptions::default().with_inbox(10_000)).await;
    let mut far = other.member("tea").await;
    // Without a break, so that the other node has no turn.
    for number in 0..1000 {
        one.hub.publish("tea", number.to_string());
    }
    let junk = (Channel::All, Bytes::from_static(b"junk"));
    link.publish(&[junk]).await.expect("the broker is there");
    sleep(Duration::from_secs(1)).await;
    broker.pause();
    sleep(Duration::from_secs(1)).await;
    one.hub.publish("tea", "lost");
    broker.resume();
    // By itself.
    sleep(Duration::from_secs(30)).await;
    let stats = [one.cluster.stats(), other.cluster.stats()];
    let reported = recorded.of_clusters();
    assert_eq!(reported, sums(&stats));
    assert!(reported.values().all(|value| *value > 0), "{reported:?}");
    // Up to now, and once.
    one.hub.publish("tea", "next");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(far.texts().await.last().map(String::as_str), Some("next"));
    for _ in 0..2 {
        one.cluster.report_stats();
        other.cluster.report_stats();
    }
    let stats = [one.cluster.stats(), other.cluster.stats()];
    assert_eq!(recorded.of_clusters(), sums(&stats));
    // At the end, however it comes.
    one.hub.publish("tea", "last");
    one.cluster.leave().await;
    far.text().await;
    assert_eq!(other.cluster.stats().received, stats[1].received + 1);
    let TestNode { cluster, .. } = other;
    let stats = [one.cluster.stats(), cluster.stats()].map(|mut stats| {
        (stats.nodes, stats.subscriptions) = (0, 0);
        stats
    });
    drop(cluster);
    assert_eq!(recorded.of_clusters(), sums(&stats));
}
