//! Waiting on a connection's sending half: every condition that a task can wait for, and the one place that wakes
//! the tasks whose condition is met.

use std::task::{Poll, Waker};

use crate::sending::wakers::{Ticket, Waiter, Want};
use crate::sending::writer::Writer;
use crate::{Error, Transport};

impl<T: Transport> Writer<T> {
    /// Waits until a message can be queued.
    pub(crate) fn poll_room(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        self.check()?;
        self.poll_want(Waiter { ticket: Ticket::SOCKET, want: Want::Room, waker })
    }

    /// Waits until an answer can be queued, whether or not a message in parts is open.
    pub(crate) fn poll_answer_room(&mut self, waker: &Waker) -> Poll<Result<(), Error>> {
        self.check()?;
        self.poll_want(Waiter { ticket: Ticket::SOCKET, want: Want::PartRoom, waker })
    }

    /// Returns whether a condition is met. Every condition is decided here.
    pub(super) fn is_met(&self, want: Want) -> bool {
        if self.finished || self.failed.is_some() {
            return true;
        }
        match want {
            Want::Progress => false,
            Want::Flushed(position) => self.flushed >= position,
            Want::Room | Want::PartRoom | Want::Fits(_) if self.out.is_closing() => true,
            Want::Room => self.can_queue(),
            Want::PartRoom => self.has_part_room(),
            // An empty queue accepts any message: the limit applies to messages that wait.
            Want::Fits(cost) => self.out.pending() == 0 || self.out.cost() <= cost,
        }
    }

    /// Waits for a condition, and writes meanwhile.
    #[inline]
    pub(crate) fn poll_want(&mut self, waiter: Waiter<'_>) -> Poll<Result<(), Error>> {
        if self.is_met(waiter.want) {
            return Poll::Ready(Ok(()));
        }
        if let Want::Flushed(position) = waiter.want {
            self.barrier = self.barrier.min(position);
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(Some(waiter)) {
            return Poll::Ready(Err(error));
        }
        if self.is_met(waiter.want) {
            self.forget(waiter.ticket);
            return Poll::Ready(Ok(()));
        }
        self.wakers().register(waiter);
        if !matches!(waiter.want, Want::Progress | Want::Flushed(_)) {
            // The queue is full, for an unknown time.
            self.out.queue_mut().shrink();
        }
        Poll::Pending
    }

    /// Ends the wait of the task with this ticket.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        if let Some(wakers) = &self.wakers
            && wakers.is_waited_for()
        {
            wakers.forget(ticket);
        }
    }

    /// Returns the ticket to wait under, and assigns one if the call has none.
    pub(crate) fn ticket(&mut self, ticket: &mut Option<Ticket>) -> Ticket {
        *ticket.get_or_insert_with(|| {
            self.tickets += 1;
            Ticket(self.tickets)
        })
    }

    #[inline]
    pub(super) fn is_waited_for(&self) -> bool {
        self.wakers.as_ref().is_some_and(|wakers| wakers.is_waited_for())
    }

    /// Wakes every task whose condition is met, once the lock is free.
    ///
    /// Called whenever a condition may have become true: after progress of the transport, the end of a message in
    /// parts, a drop from the queue, a close frame, a failure, or the end of the connection.
    #[cold]
    pub(crate) fn wake_met(&mut self) {
        let Some(wakers) = self.wakers.clone() else { return };
        if !wakers.is_waited_for() {
            return;
        }
        let mut due = self.due.take().unwrap_or_default();
        let is_written = !self.has_unwritten();
        let barrier = wakers.take_met(is_written, |want| self.is_met(want), &mut due.wakers);
        self.barrier = self.barrier.min(barrier);
        self.due = Some(due);
    }

    /// Wakes the task that receives once the lock is free.
    #[cold]
    pub(crate) fn wake_owner(&mut self) {
        if let Some(owner) = self.owner.clone() {
            self.due().wakers.push(owner);
        }
    }
}
