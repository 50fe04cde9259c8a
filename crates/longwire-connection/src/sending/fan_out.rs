//! Prepared messages, which are sent to many connections: the limit on those that wait, and writes that the publisher
//! puts off so that a connection is written to once for several messages.
//!
//! The publisher keeps the list of the connections that it has to write to; `longwire-hub` is the publisher.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use longwire_protocol::PreparedMessage;
use tokio::task::coop;

use crate::scratch;
use crate::sending::request::IfFull;
use crate::sending::shared::Shared;
use crate::sending::wakers::{Ticket, Waiter, Want};
use crate::sending::writer::Writer;
use crate::{Error, Transport};

/// The publisher of a message to many connections.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Publisher {
    /// The number of the publisher's list of connections, not 0. A connection remembers it until it is written to by
    /// [`Sender::write_queued`](crate::Sender::write_queued), so that it is added to the list once.
    pub list: u32,
    /// Whether the publisher writes later, at the end of its turn.
    pub gathers: bool,
}

/// The outcome of a message that was queued.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Queued {
    /// The number of older messages that were dropped.
    pub dropped: usize,
    /// Whether the publisher must add the connection to its list and write to it later.
    pub is_due: bool,
}

impl<T: Transport> Shared<T> {
    /// Queues a prepared message, and writes it unless the publisher does so later.
    pub(crate) fn publish(
        &self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
        by: Publisher,
    ) -> Result<Queued, Error> {
        let unlisted = Unlisted(self);
        let queued = self.with(|writer| {
            writer.check()?;
            // Without a budget, a socket of tokio would accept nothing, and wake the receiving task at a higher cost.
            let has_budget = coop::has_budget_remaining();
            let is_later = by.gathers || !has_budget;
            let len = prepared.server_frame().len();
            let mut fits = writer.fits(len, limit);
            if is_later && !fits {
                // The transport has not been offered the messages of this turn: the client is not slow yet.
                write_out(writer);
                writer.check()?;
                fits = writer.fits(len, limit);
            }
            let had_unwritten = writer.has_unwritten();
            let dropped = if fits { 0 } else { writer.make_room(len, limit, if_full)? };
            writer.append_prepared(prepared, if_full, is_later)?;
            let is_due = if self.is_corked() {
                false
            } else if is_later && (!has_budget || writer.out.pending() < GATHERED) {
                // If bytes wait since another message of the same list, the connection is in the list.
                !(std::mem::replace(&mut writer.publisher, by.list) == by.list && had_unwritten)
            } else {
                self.start_writing(writer);
                false
            };
            Ok(Queued { dropped, is_due })
        });
        std::mem::forget(unlisted);
        queued
    }

    /// Writes what is queued, as much as the transport accepts. Does nothing while this thread polls the connection's
    /// handler, at the end of whose turn it is written.
    pub(crate) fn write_queued(&self) {
        self.with(|writer| {
            // The connection is in no list now, or in that of a publisher that adds it a second time.
            writer.publisher = 0;
            if writer.has_unwritten() && !self.is_corked() {
                write_out(writer);
            }
        });
    }
}

/// Leaves what is queued to the connection's own task, when foreign code panics in [`Shared::publish`]: the publisher
/// does not learn that it must write.
struct Unlisted<'a, T: Transport>(&'a Shared<T>);

impl<T: Transport> Drop for Unlisted<'_, T> {
    fn drop(&mut self) {
        // A waker that panics as well must not end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.0.with(|writer| {
                writer.publisher = 0;
                writer.wake_owner();
            });
        }));
    }
}

/// Writes as much as the transport accepts, whatever is left of the task's cooperative budget. The number of such
/// writes at the end of a turn is bounded by the caller; those for full queues are not. An error is kept and reported
/// where it can be handled.
fn write_out<T: Transport>(writer: &mut Writer<T>) {
    let write = coop::unconstrained(poll_fn(|_| {
        let polled = writer.try_flush(None);
        if polled.is_pending()
            && let Some(owner) = writer.owner.clone()
        {
            let waiter = Waiter { ticket: Ticket::OWNER, want: Want::Progress, waker: &owner };
            let _ = writer.try_flush(Some(waiter));
        }
        Poll::Ready(())
    }));
    let _ = pin!(write).poll(&mut Context::from_waker(Waker::noop()));
}

impl<T: Transport> Writer<T> {
    /// Returns whether a prepared message of `len` bytes fits into `limit` bytes of queue. An empty queue accepts any
    /// message: the limit applies to messages that wait.
    #[inline]
    fn fits(&self, len: usize, limit: usize) -> bool {
        let cost = self.out.cost();
        cost == 0 || cost.saturating_add(len) <= limit
    }

    /// Queues a prepared message, if it fits into `limit` bytes of queue or can be made to fit. Returns the number of
    /// dropped messages.
    #[inline]
    pub(crate) fn queue_prepared(
        &mut self,
        prepared: &PreparedMessage,
        limit: usize,
        if_full: IfFull,
    ) -> Result<usize, Error> {
        self.check()?;
        let len = prepared.server_frame().len();
        let dropped = if self.fits(len, limit) { 0 } else { self.make_room(len, limit, if_full)? };
        self.append_prepared(prepared, if_full, false)?;
        Ok(dropped)
    }

    /// Drops older messages until one of `len` bytes fits into `limit` bytes of queue, and returns their number.
    #[cold]
    fn make_room(&mut self, len: usize, limit: usize, if_full: IfFull) -> Result<usize, Error> {
        if if_full != IfFull::DropOldest || !self.out.fits_by_dropping(len, limit) {
            return Err(Error::QueueFull);
        }
        let mut dropped = 0;
        while !self.fits(len, limit) && self.drop_oldest() {
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Queues a prepared message, to be written later or by the caller.
    #[inline]
    fn append_prepared(
        &mut self,
        prepared: &PreparedMessage,
        if_full: IfFull,
        is_later: bool,
    ) -> Result<(), Error> {
        let kept_before = self.out.keeps_compressor();
        if is_later {
            // Not the thread's large buffer, which would stay here until the end of the turn.
            let copied = if if_full == IfFull::Refuse { COPIED } else { 0 };
            self.out.prepared_copying(prepared, copied, scratch::take_small_buffer)?;
        } else {
            self.lend_buffer();
            self.out.prepared(prepared)?;
        }
        self.watch_compressor(kept_before);
        self.count_sent(prepared.message_len());
        Ok(())
    }
}

/// The number of queued bytes from which a connection is written to at once.
const GATHERED: usize = 16 * 1024;

/// The number of bytes up to which several short messages are copied into one buffer, which is cheaper to write than
/// several. A single message, and what follows in longer queues, stays in the bytes that all connections share.
const COPIED: usize = 4 * 1024;
