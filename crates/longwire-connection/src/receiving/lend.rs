//! Messages that are lent: the application looks at them where they lie.
//!
//! A message that is complete in the read buffer is unmasked and checked there. Any other is assembled as for
//! [`Reader::poll_recv`], and lent from its own memory. No await lies between the moment at which a message is taken
//! and its use, so a dropped call has used it or left it to the next one.

use std::task::{Context, Poll, ready};

use longwire_protocol::{Message, MessageRef};

use crate::receiving::excess::is_message_within_rate;
use crate::receiving::reader::{Filled, Reader, cost};
use crate::sending::shared::Shared;
use crate::{Error, Transport};

/// A message that is lent, and the connection that it came from.
pub(crate) struct Lent<'a, T: Transport> {
    pub(crate) message: MessageRef<'a>,
    /// The message if it owns its payload; `None` if it lies in the read buffer.
    pub(crate) whole: Option<&'a Message>,
    pub(crate) shared: &'a Shared<T>,
    /// Whether the queue has room for answers.
    pub(crate) has_room: &'a mut bool,
}

impl<T: Transport> Reader<T> {
    /// Lends the next message to `look`, which is called at most once. Ready after the call, or at the end of the
    /// connection without one. Everything else is as for [`poll_recv`](Self::poll_recv).
    #[inline]
    pub(crate) fn poll_recv_with(
        &mut self,
        mut look: impl FnMut(Lent<'_, T>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.start_receiving();
        loop {
            match self.lend_message(&mut look) {
                Took::Lent => return Poll::Ready(Ok(())),
                Took::Refused => continue,
                Took::Nothing => {}
            }
            if self.needs_bytes() && ready!(self.poll_fill(cx)) == Filled::Read {
                continue;
            }
            if let Some(received) = ready!(self.poll_message(cx)) {
                let Self { shared, has_room, .. } = self;
                return Poll::Ready(received.map(|message| {
                    if let Some(message) = message {
                        look(Lent { message: (&message).into(), whole: Some(&message), shared, has_room });
                    }
                }));
            }
        }
    }

    /// Lends a message that was read in one piece, from the read buffer.
    #[inline]
    fn lend_message(&mut self, look: &mut impl FnMut(Lent<'_, T>)) -> Took {
        if !self.may_take_message() {
            return Took::Nothing;
        }
        let Self { shared, inbound, read, meter, has_room, .. } = self;
        let (input, start) = read.parts_mut();
        let left = input.len();
        let Some((message, taken)) = inbound.decode_in_place(input) else { return Took::Nothing };
        let left = left - taken;
        // Before foreign code runs, which may panic.
        *start += taken;
        self.budget = self.budget.saturating_sub(cost(message.len()));
        if !is_message_within_rate(meter, message.len()) {
            self.read.keep_last(left, &mut self.pace);
            self.handle_excess();
            return Took::Refused;
        }
        self.messages += 1;
        self.measure.received(message.len());
        if std::mem::take(&mut self.owes_pong) {
            shared.start_writing(&mut shared.lock());
        }
        look(Lent { message, whole: None, shared, has_room });
        self.read.keep_last(left, &mut self.pace);
        Took::Lent
    }
}

/// The outcome of an attempt to lend a message from the read buffer.
enum Took {
    Lent,
    /// The message was above the rate limit.
    Refused,
    /// The next message is not there, or not in one piece.
    Nothing,
}
