//! The handshakes that are going on: how many there may be, and who has to go first.
//!
//! When a new one finds no place, the oldest loses its own. An honest client is through in a moment, so the oldest is the
//! one that drips; refusing the newest instead would let a thousand idle strangers lock everybody out. A handshake that
//! waits for the application is another matter: the client has sent its whole request, and how long it waits is not its
//! doing. It keeps its place, and those who find too many of these are refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Notified when the last ticket is gone.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By age: those that have a place and give way to newer ones.
    yielding: BTreeMap<u64, Arc<Revocation>>,
    /// Those that wait for the application.
    held: BTreeMap<u64, Arc<Revocation>>,
    issued: u64,
    /// Tickets that exist, with those that were revoked and are about to go.
    tickets: usize,
    closed: bool,
}

/// Whether a handshake has lost its place, and why.
type Revocation = watch::Sender<Option<Revoked>>;

/// Why a handshake lost its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// A newer one needs it.
    Crowded,
    /// The server shuts down.
    ShutDown,
}

/// One handshake's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    /// How many handshakes may have a place, and how many may hold one.
    most: usize,
    revocation: Arc<Revocation>,
    pending: Arc<Pending>,
}

impl Pending {
    /// Gives a place to one more handshake; at the cost of the oldest if there are `most` already.
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

    /// Revokes every place, and every one to come.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let places = [std::mem::take(&mut state.yielding), std::mem::take(&mut state.held)];
        drop(state);
        for revocation in places.iter().flat_map(BTreeMap::values) {
            revocation.send_replace(Some(Revoked::ShutDown));
        }
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
        // Nothing that can panic leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds a handshake to those that give way, the oldest of which do.
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
    /// Waits until the place is lost.
    pub(crate) fn revoked(&self) -> impl Future<Output = Revoked> + Send + use<> {
        let mut revocation = self.revocation.subscribe();
        async move {
            let revoked = revocation.wait_for(Option::is_some).await;
            // The other end goes with this ticket, and then nobody waits.
            revoked.ok().and_then(|revoked| *revoked).unwrap_or(Revoked::ShutDown)
        }
    }

    /// Keeps the place against newer handshakes, until [`release`](Self::release). One that was lost to a newer one is had
    /// back.
    ///
    /// Returns `false` if as many hold theirs as may, or the server shuts down.
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

    /// Gives way to newer handshakes again.
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
