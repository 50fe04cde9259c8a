//! Passes counts to the recorder of the `metrics` crate. Owns the names of metrics, except those of clients, which
//! the hub owns.

use std::time::Duration;

use http::StatusCode;
use longwire_hub::Hub;
use metrics::{counter, histogram};

pub(crate) fn opened(took: Duration) {
    histogram!("longwire_handshake_duration_seconds").record(took.as_secs_f64());
}

pub(crate) fn rejected(status: StatusCode) {
    // A status has three digits, so there are few label values.
    counter!("longwire_handshakes_rejected_total", "status" => status.as_str().to_owned()).increment(1);
}

/// Reports the traffic of connections at intervals, and once more when the future is dropped.
pub(crate) async fn report(hub: Hub) {
    let report = Report(hub);
    loop {
        tokio::time::sleep(INTERVAL).await;
        report.0.report_traffic_in_turns().await;
    }
}

struct Report(Hub);

impl Drop for Report {
    fn drop(&mut self) {
        self.0.report_traffic();
    }
}

/// Recorders are usually queried every 15 s or less often.
const INTERVAL: Duration = Duration::from_secs(10);
