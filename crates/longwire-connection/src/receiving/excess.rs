//! Consequences of exceeding the rate limit.
//!
//! [`crate::receiving::policy::rate`] decides when the limit is exceeded. Without a limit, messages do not reach
//! this code.

use longwire_protocol::Event;
use tokio::time::Instant;

use crate::receiving::policy::rate::Excess;
use crate::receiving::reader::Reader;
use crate::{Error, Transport};

impl<T: Transport> Reader<T> {
    /// Returns whether the peer may send this now. If not, the rest of the same message is skipped.
    pub(crate) fn is_within_rate(&mut self, event: &Event) -> bool {
        let Some(meter) = &mut self.meter else {
            return true;
        };
        let now = || Instant::now().into_std();
        match event {
            Event::Message(message) => meter.admit_message(message.len(), now()),
            Event::Part(part) => {
                let admitted = meter.admit_part(part.data.len(), part.last, now());
                if !admitted {
                    self.inbound.skip_rest();
                }
                admitted
            }
            Event::Ping(_) | Event::Pong(_) | Event::Close(_) => true,
        }
    }

    /// Drops a message above the rate limit, or fails the connection.
    #[cold]
    pub(crate) fn handle_excess(&mut self) {
        let excess = self.meter.as_ref().map_or(Excess::Close, |meter| meter.excess);
        self.shared.lock().messages_refused += 1;
        if excess == Excess::Close {
            self.fail(Error::RateExceeded);
        }
    }

    /// Skips the rest of a message that was not received to its end.
    pub(crate) fn skip_rest(&mut self) {
        self.inbound.skip_rest();
        if let Some(meter) = &mut self.meter {
            meter.skip_rest();
        }
    }
}
