//! The handshakes in progress: their maximum number, and which one must go first.
//!
//! When a new handshake finds no free slot, the oldest loses its own. An honest client needs only a moment, so the
//! oldest is likely to be one that sends its request slowly on purpose; if the newest were refused instead, a
//! thousand idle clients could lock out everyone else. A handshake that waits for the application is different: the
//! client has sent its whole request, and the wait is not its fault. It keeps its slot. If too many handshakes hold
//! theirs, the next one that needs to wait for the application is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, MutexGuard, Notify, watch};

#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Notified when the last ticket is gone.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The handshakes whose slots yield to newer ones, ordered by age.
    yielding: BTreeMap<u64, Arc<Revocation>>,
    /// The handshakes that wait for the application and keep their slots.
    held: BTreeMap<u64, Arc<Revocation>>,
    issued: u64,
    /// The number of existing tickets, including revoked ones that are not dropped yet.
    tickets: usize,
    closed: bool,
}

/// The reason a handshake lost its slot, or `None` while it has one.
type Revocation = watch::Sender<Option<Revoked>>;

/// The reason a handshake lost its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// A newer handshake needs the slot.
    Crowded,
    /// The server is shutting down.
    ShutDown,
}

/// The slot of one handshake. Dropping the ticket frees the slot.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    /// The maximum number of slots that yield, and also of those that are held.
    most: usize,
    revocation: Arc<Revocation>,
    pending: Arc<Pending>,
}

impl Pending {
    /// Gives a slot to one more handshake. If `most` slots already yield, the oldest loses its own.
    pub(crate) fn enter(self: &Arc<Self>, most: usize) -> Ticket {
        let most = most.max(1);
        let revocation = Arc::new(Revocation::new(None));
        let mut state = self.state();
        state.issued += 1;
        state.tickets += 1;
        let number = state.issued;
        state.admit(number, &revocation, most);
        drop(state);
        Ticket { number, most, revocation, pending: Arc::clone(self) }
    }

    /// Revokes every slot, including all future ones.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let places = [std::mem::take(&mut state.yielding), std::mem::take(&mut state.held)];
        drop(state);
        for revocation in places.iter().flat_map(BTreeMap::values) {
            revocation.send_replace(Some(Revoked::ShutDown));
        }
    }

    /// Returns whether every slot is revoked because the server is shutting down.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until no ticket is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.state().tickets == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a handshake to those that yield. If there are too many, the oldest lose their slots.
    fn admit(&mut self, number: u64, revocation: &Arc<Revocation>, most: usize) {
        if self.closed {
            revocation.send_replace(Some(Revoked::ShutDown));
            return;
        }
        while self.yielding.len() >= most
            && let Some((_, oldest)) = self.yielding.pop_first()
        {
            oldest.send_replace(Some(Revoked::Crowded));
        }
        self.yielding.insert(number, Arc::clone(revocation));
    }
}

impl Ticket {
    /// Waits until the slot is revoked.
    pub(crate) fn revoked(&self) -> impl Future<Output = Revoked> + Send + use<> {
        let mut revocation = self.revocation.subscribe();
        async move {
            let revoked = revocation.wait_for(Option::is_some).await;
            // The sender lives as long as this ticket, and no task waits after that.
            revoked.ok().and_then(|revoked| *revoked).unwrap_or(Revoked::ShutDown)
        }
    }

    /// Keeps the slot even if newer handshakes need one, until [`release`](Self::release). A slot that was lost to
    /// a newer handshake is regained.
    ///
    /// Returns `false` if the maximum number of slots is held, or if the server is shutting down.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.pending.state();
        if state.closed || state.held.len() >= self.most {
            return false;
        }
        state.yielding.remove(&self.number);
        state.held.insert(self.number, Arc::clone(&self.revocation));
        self.revocation.send_replace(None);
        true
    }

    /// Lets the slot yield to newer handshakes again.
    pub(crate) fn release(&self) {
        let mut state = self.pending.state();
        if state.held.remove(&self.number).is_some() {
            state.admit(self.number, &self.revocation, self.most);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.pending.state();
        state.yielding.remove(&self.number);
        state.held.remove(&self.number);
        state.tickets -= 1;
        if state.tickets == 0 {
            drop(state);
            self.pending.emptied.notify_waiters();
        }
    }
}

#[cfg(all(test, longwire_loom))]
mod models;
