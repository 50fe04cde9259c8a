//! Counts passed on to the recorder of the `metrics` crate. Owns the names; those of clients are the hub's.

use std::time::Duration;

use http::StatusCode;
use longwire_hub::Hub;
use metrics::{counter, histogram};

pub(crate) fn opened(took: Duration) {
    histogram!("longwire_handshake_duration_seconds").record(took.as_secs_f64());
}

pub(crate) fn rejected(status: StatusCode) {
    // A status has three digits: there are few.
    counter!("longwire_handshakes_rejected_total", "status" => status.as_str().to_owned()).increment(1);
}

/// Passes on what has gone through connections, from time to time and at last when the future is dropped.
pub(crate) async fn report(hub: Hub) {
    let report = Report(hub);
    loop {
        tokio::time::sleep(INTERVAL).await;
        report.0.report_traffic();
    }
}

struct Report(Hub);

impl Drop for Report {
    fn drop(&mut self) {
        self.0.report_traffic();
    }
}

/// Recorders are usually asked every 15 s or less often.
const INTERVAL: Duration = Duration::from_secs(10);
