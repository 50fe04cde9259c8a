//! Counts reported to the recorder of the `metrics` crate.
//!
//! Owns the names, and what was reported. [`ClusterStats`] has the counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};

use crate::node::Node;
use crate::stats::ClusterStats;

/// The counts that the recorder has.
#[derive(Default)]
pub(crate) struct Reported(Mutex<ClusterStats>);

impl Reported {
    /// Reports the changes since the last call. The counts are read under a lock, so that two calls do not mix.
    pub(crate) fn report(&self, read: impl FnOnce() -> ClusterStats) {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *reported;
        let now = read();
        *reported = now;
        drop(reported);
        for (name, now, before) in [
            ("longwire_cluster_messages_published_total", now.published, before.published),
            ("longwire_cluster_bytes_published_total", now.published_bytes, before.published_bytes),
            ("longwire_cluster_messages_lost_total", now.lost, before.lost),
            ("longwire_cluster_messages_received_total", now.received, before.received),
            ("longwire_cluster_bytes_received_total", now.received_bytes, before.received_bytes),
            ("longwire_cluster_messages_overflowed_total", now.overflowed, before.overflowed),
            ("longwire_cluster_gaps_total", now.gaps, before.gaps),
            ("longwire_cluster_messages_malformed_total", now.malformed, before.malformed),
            ("longwire_cluster_outages_total", now.outages, before.outages),
        ] {
            counter!(name).increment(now.saturating_sub(before));
        }
        // By their changes, so that several clusters of one process add up.
        for (name, now, before) in [
            ("longwire_cluster_nodes", now.nodes, before.nodes),
            ("longwire_cluster_subscriptions", now.subscriptions, before.subscriptions),
        ] {
            gauge!(name).increment(number(now) - number(before));
        }
    }
}

/// Reports a node's counts at intervals, until it is aborted.
pub(crate) async fn report(node: Arc<Node>) {
    loop {
        node.report_stats();
        tokio::time::sleep(INTERVAL).await;
    }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// Recorders are usually queried every 15 s or less often.
const INTERVAL: Duration = Duration::from_secs(10);
