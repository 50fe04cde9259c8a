//! Consequences of exceeding the rate limit.
//!
//! [`crate::receiving::policy::rate`] decides when the limit is exceeded.

use longwire_protocol::Event;
use tokio::time::Instant;

use crate::receiving::policy::rate::{Excess, Meter};
use crate::receiving::reader::Reader;
use crate::{Error, Transport};

impl<T: Transport> Reader<T> {
    /// Returns whether the peer may send this now. If not, the rest of the same message is skipped.
    pub(crate) fn is_within_rate(&mut self, event: &Event) -> bool {
        match event {
            Event::Message(message) => is_message_within_rate(&mut self.meter, message.len()),
            Event::Part(part) => {
                let Some(meter) = &mut self.meter else { return true };
                let admitted = meter.admit_part(part.data.len(), part.last, Instant::now().into_std());
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

/// Returns whether the peer may send a whole message of `len` bytes now.
#[inline]
pub(super) fn is_message_within_rate(meter: &mut Option<Box<Meter>>, len: usize) -> bool {
    let is_within = |meter: &mut Box<Meter>| meter.admit_message(len, Instant::now().into_std());
    meter.as_mut().is_none_or(is_within)
}
