//! Overload in the log: one line for each cause, and then none for a while. Under attack, a line for each client that
//! is turned away would be an attack on the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

/// The time after a line in which the same cause is only counted.
const SILENCE: Duration = Duration::from_secs(10);

/// The reasons for which a server turns clients away that it would serve at another time.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    handshakes: Throttle,
    clients: Throttle,
}

#[derive(Debug, Default)]
struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The end of the silence that the last line began.
    silent_until: Option<Instant>,
    /// The number of clients since that line.
    untold: u64,
}

impl Overload {
    /// A client is turned away because too many handshakes are in progress.
    pub(crate) fn handshakes(&self, most: usize) {
        if let Some(turned_away) = self.handshakes.count() {
            info!(turned_away, max_handshakes = most, "overload: too many handshakes at once");
        }
    }

    /// A client is turned away because the hub has as many as it may have.
    pub(crate) fn clients(&self, most: usize) {
        if let Some(turned_away) = self.clients.count() {
            info!(turned_away, max_clients = most, "overload: too many clients");
        }
    }
}

impl Throttle {
    /// Counts a client. Returns the number since the last line if another line is due.
    fn count(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        let now = Instant::now();
        if state.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        state.silent_until = Some(now + SILENCE);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_followed_by_silence() {
        let throttle = Throttle::default();
        assert_eq!(throttle.count(), Some(1));
        assert_eq!([throttle.count(), throttle.count()], [None; 2]);
        tokio::time::advance(SILENCE).await;
        assert_eq!(throttle.count(), Some(3));
        assert_eq!(throttle.count(), None);
    }
}
