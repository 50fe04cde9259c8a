//! The task that keeps the connection: it decides when to connect, when to wait and when to stop.
//!
//! [`super::serve`] handles each connection.

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{CloseFrame, Error, Transport, WebSocket, race};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{field, info, warn};

use super::inbox::Filling;
use super::serve::{End, Missed, Serving, none_at_close};
use super::settings::Settings;
use super::shared::{Finish, Phase, Shared};
use super::{Failure, Outage};

pub(super) struct Task<T: Transport> {
    pub(super) settings: Settings<T>,
    pub(super) shared: Arc<Shared>,
    pub(super) incoming: Filling,
}

impl Missed {
    fn now(outage: &Arc<Outage>) -> Self {
        let now = Instant::now();
        let (outage, last_failure) = (Arc::clone(outage), Arc::clone(outage));
        Self { outage, last_failure, since: now, attempts: 0, until: now }
    }
}

/// Consecutive failures.
struct Row {
    failures: u32,
    since: Instant,
}

impl Row {
    fn begin() -> Self {
        Self { failures: 0, since: Instant::now() }
    }
}

/// The end of the task: the outage that receiving reports, and the result that closing reports.
type Stop = (Option<Outage>, Result<(), Error>);

impl<T: Transport> Task<T> {
    /// Keeps the connection until it is closed or given up.
    pub(super) async fn run(self, mut finish: Finish) {
        // `task` is declared after `finish` and so dropped first: once the end is announced, everything else is gone.
        let mut task = self;
        let (last, closed) = task.keep().await;
        finish.orderly(last, closed);
    }

    async fn keep(&mut self) -> Stop {
        let mut closing = self.shared.closing.subscribe();
        let mut row = Row::begin();
        let mut missed: Option<Missed> = None;
        loop {
            let attempt = row.failures.saturating_add(1);
            self.shared.state.send_replace(Phase::Connecting { attempt });
            if let Some(missed) = &mut missed {
                missed.attempts = missed.attempts.saturating_add(1);
            }
            let opening = async { Some(self.settings.open(attempt).await) };
            let Some(opened) = race(opening, none_at_close(&mut closing)).await else {
                return self.closed_without_connection();
            };
            let was_connected = opened.is_ok();
            let outage = match opened {
                Err(outage) => outage,
                Ok(ws) => match self.serve(ws, &mut missed, &mut closing, &mut row).await {
                    End::Outage(outage) => outage,
                    End::Closed(closed) => return (None, closed),
                },
            };
            row.failures = row.failures.saturating_add(1);
            let failure = Failure { outage: &outage, attempt: row.failures, elapsed: row.since.elapsed() };
            if !(self.settings.retry_if)(&failure) {
                let (_, closed) = self.closed_without_connection();
                let last = Some(outage).filter(|outage| !outage.is_clean());
                if let Some(outage) = &last {
                    warn_of(outage, was_connected, attempt, None);
                }
                return (last, closed);
            }
            let wait = self.settings.backoff.wait_after(row.failures, outage.retry_after());
            warn_of(&outage, was_connected, attempt, Some(wait));
            let until = later(wait);
            let cause = Arc::new(outage);
            match &mut missed {
                // An older outage that was not yet reported to the application takes precedence.
                Some(missed) => missed.last_failure = Arc::clone(&cause),
                None if was_connected => missed = Some(Missed::now(&cause)),
                None => {}
            }
            self.shared.state.send_replace(Phase::Waiting { failures: row.failures, until, cause });
            let waiting = async {
                sleep_until(until).await;
                Some(())
            };
            if race(none_at_close(&mut closing), waiting).await.is_none() {
                return self.closed_without_connection();
            }
        }
    }

    /// Serves one connection to its end.
    async fn serve(
        &mut self,
        ws: WebSocket<T>,
        missed: &mut Option<Missed>,
        closing: &mut watch::Receiver<Option<CloseFrame>>,
        row: &mut Row,
    ) -> End {
        let begun = Instant::now();
        if let Some(missed) = missed {
            missed.until = begun;
        }
        self.shared.state.send_replace(Phase::Connected);
        if row.failures > 0 {
            let gap = missed.as_ref().map(|missed| begun - missed.since);
            info!(failures = row.failures, gap = gap.map(field::debug), "connected after failures");
        }
        let Settings { confirm, delivery_timeout, close_timeout, .. } = self.settings;
        let serving = Serving {
            outbox: &self.shared.outbox,
            incoming: &self.incoming,
            missed,
            closing,
            on_message: &mut self.settings.on_message,
            confirm,
            delivery_timeout,
            close_timeout,
        };
        let end = serving.run(ws).await;
        self.shared.outbox.lose();
        if begun.elapsed() >= self.settings.backoff.reset_after {
            *row = Row::begin();
        }
        end
    }

    /// Returns the end without a connection: no peer can receive a close frame, and nothing is left to wait for.
    fn closed_without_connection(&self) -> Stop {
        let (waiting, _) = self.shared.outbox.waiting();
        (None, if waiting == 0 { Ok(()) } else { Err(Error::Closed) })
    }
}

impl<T: Transport> Settings<T> {
    /// Opens a connection and sets it up.
    async fn open(&mut self, attempt: u32) -> Result<WebSocket<T>, Outage> {
        let ws = (self.connect)(attempt).await?;
        let limit = self.setup_timeout;
        match &mut self.on_connect {
            None => Ok(ws),
            Some(set_up) => match timeout(limit, set_up(ws)).await {
                Ok(set_up) => set_up.map_err(Outage::Setup),
                Err(_) => Err(Outage::SetupTimeout { limit }),
            },
        }
    }
}

/// Logs a failure. `retry_in` is the time until the next attempt, if there will be one.
fn warn_of(outage: &Outage, was_connected: bool, attempt: u32, retry_in: Option<Duration>) {
    match (was_connected, retry_in) {
        (true, Some(retry_in)) => warn!(error = ?outage, ?retry_in, "the connection was lost"),
        (true, None) => warn!(error = ?outage, "the connection was lost for good"),
        (false, Some(retry_in)) => warn!(attempt, error = ?outage, ?retry_in, "a connection attempt failed"),
        (false, None) => warn!(attempt, error = ?outage, "a connection attempt failed for good"),
    }
}

/// Returns the time after this wait, or a year from now if the clock cannot represent it.
fn later(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(60 * 60 * 24 * 365))
}
