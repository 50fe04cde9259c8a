//! The registry of connected clients, and their admission.
//!
//! The registry's lock is held for a lookup or a change, never while anything is sent. A call that sends to many
//! clients works on a snapshot of [`crate::members`], so a broadcast allocates only its frame.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire_connection::{CloseCode, CloseFrame, Transport, WebSocket};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::entry::Entry;
use crate::leaving::{Home, Homes};
use crate::limits::{Census, Source};
use crate::members::Members;
use crate::rooms::Rooms;
use crate::socket::Member;
use crate::stats::Counters;
use crate::traffic::Departed;
use crate::{
    ClientHandle, ClientId, ClientInfo, HubConfig, HubError, HubStats, Reservation, RunError, Socket, metrics,
};

/// The registry of connected clients. Clones are handles to the same registry.
#[derive(Clone, Default)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    made: Instant,
    registry: Mutex<Registry>,
    config: Mutex<HubConfig>,
    pub(crate) rooms: Rooms,
    /// Notified when the last client has left.
    pub(crate) emptied: Notify,
    pub(crate) counters: Counters,
    pub(crate) departed: Mutex<Departed>,
    /// The traffic that was already reported.
    #[cfg(feature = "metrics")]
    pub(crate) reported: Mutex<longwire_connection::Stats>,
}

impl Inner {
    /// Returns the time since the hub was made.
    pub(crate) fn age(&self) -> Duration {
        self.made.elapsed()
    }
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            registry: Mutex::default(),
            config: Mutex::default(),
            rooms: Rooms::default(),
            emptied: Notify::new(),
            counters: Counters::default(),
            departed: Mutex::default(),
            #[cfg(feature = "metrics")]
            reported: Mutex::default(),
        }
    }
}

#[derive(Default)]
struct Registry {
    clients: Members,
    census: Census,
    homes: Homes,
    admitted: u64,
    /// The largest number of clients that were connected at once.
    peak: usize,
    /// The close frame for clients, from the beginning of a shutdown on.
    closing: Option<CloseFrame>,
}

impl AsMut<Members> for Registry {
    fn as_mut(&mut self) -> &mut Members {
        &mut self.clients
    }
}

impl Hub {
    /// Makes a hub without clients.
    pub fn new(config: HubConfig) -> Self {
        let hub = Self::default();
        hub.set_config(config);
        hub
    }

    /// Changes the configuration, from the next broadcast and the next admission on.
    pub fn set_config(&self, config: HubConfig) {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Returns the configuration.
    pub fn config(&self) -> HubConfig {
        *self.inner.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a client and runs `handler` on its connection until both are done.
    ///
    /// The handler runs as under [`longwire_connection::drive`]: everything it sends between two yields leaves in
    /// one write, and when it returns, the connection is closed with 1000, or with 1011 for an error. The client
    /// is registered from this call until the future has ended or is dropped.
    ///
    /// # Errors
    ///
    /// [`RunError::Handler`] with the handler's error; [`RunError::Refused`] if the hub does not
    /// [admit](Self::admit) the client; [`RunError::Aborted`] if the client had not left by the deadline of a shutdown.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, so is the handler; the connection is closed in the background.
    pub fn run<T, F, Fut, E>(
        &self,
        ws: WebSocket<T>,
        info: ClientInfo,
        handler: F,
    ) -> impl Future<Output = Result<(), RunError<E>>> + use<T, F, Fut, E>
    where
        T: Transport,
        F: FnOnce(Socket<T>) -> Fut,
        Fut: Future<Output = Result<(), E>>,
    {
        let admitted = self.admit(ws, info);
        async move {
            match admitted {
                Ok(socket) => socket.run(handler).await,
                Err(error) => Err(RunError::Refused(error)),
            }
        }
    }

    /// Admits a client whose socket the caller drives. It is registered until the socket is dropped.
    ///
    /// # Errors
    ///
    /// [`HubError::ShuttingDown`]: the connection was closed with the shutdown's code. [`HubError::Full`] and
    /// [`HubError::FullForAddress`]: the limit on clients is reached, and the connection was closed with 1013
    /// (try again later).
    pub fn admit<T: Transport>(
        &self,
        mut ws: WebSocket<T>,
        mut info: ClientInfo,
    ) -> Result<Socket<T>, HubError> {
        let source = info.peer_addr.map(Source::from);
        let mut reservation = info.reservation.take();
        let fits = reservation.as_mut().map_or(Ok(false), |reservation| reservation.fits(self, source));
        let admitted = fits.map_err(|error| (error, self.refusal())).and_then(|fits| {
            let reservation = reservation.filter(|_| fits);
            self.admit_to(reservation, source, |id, home| Entry::new(id, ws.sender(), info, home))
        });
        match admitted {
            Ok(entry) => Ok(Socket::new(ws, Member::new(entry))),
            Err((error, frame)) => {
                // A connection that is already closing needs no second close frame.
                let _ = ws.start_close(frame.code, &frame.reason);
                Err(error)
            }
        }
    }

    fn admit_to(
        &self,
        reservation: Option<Reservation>,
        source: Option<Source>,
        make: impl FnOnce(ClientId, Arc<Home>) -> Entry,
    ) -> Result<Arc<Entry>, (HubError, CloseFrame)> {
        let mut reservation = match reservation {
            Some(reservation) => reservation,
            None => self.reserve_for(source).map_err(|error| (error, self.refusal()))?,
        };
        let mut registry = self.registry();
        if let Some(frame) = registry.closing.clone() {
            // The place is given back after the lock is released.
            drop(registry);
            return Err((HubError::ShuttingDown, frame));
        }
        let home = registry.homes.here(self);
        registry.census.occupy();
        reservation.occupied = true;
        registry.admitted += 1;
        let entry = Arc::new(make(ClientId(registry.admitted), home));
        let stale = registry.clients.insert(ClientHandle { entry: Arc::clone(&entry) });
        registry.peak = registry.peak.max(registry.clients.len());
        drop(registry);
        drop((stale, reservation));
        metrics::opened();
        Ok(entry)
    }

    /// Reserves a place for a client from this source, if one is free.
    pub(crate) fn reserve_for(&self, source: Option<Source>) -> Result<Reservation, HubError> {
        let config = self.config();
        let mut registry = self.registry();
        let reserved = match registry.closing {
            Some(_) => Err(HubError::ShuttingDown),
            None => registry.census.reserve(source, &config),
        };
        drop(registry);
        match reserved {
            Ok(()) => Ok(Reservation { hub: self.clone(), source, occupied: false }),
            Err(error) => {
                if !matches!(error, HubError::ShuttingDown) {
                    self.inner.counters.refused.add(1);
                    metrics::refused();
                }
                Err(error)
            }
        }
    }

    /// Counts a reserved place for this source, if one more client from it is allowed.
    pub(crate) fn assign(&self, source: Source) -> Result<(), HubError> {
        let config = self.config();
        let assigned = self.registry().census.assign(source, &config);
        assigned.inspect_err(|_| {
            self.inner.counters.refused.add(1);
            metrics::refused();
        })
    }

    /// Returns the close frame for a client that is not admitted.
    fn refusal(&self) -> CloseFrame {
        let closing = self.registry().closing.clone();
        closing.unwrap_or_else(|| CloseFrame::new(CloseCode::TRY_AGAIN_LATER, ""))
    }

    /// Returns a runtime in which clients were admitted, if there is one.
    pub(crate) fn any_runtime(&self) -> Option<Handle> {
        self.registry().homes.runtime()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Gives back a place that no client used.
    pub(crate) fn give_back(&self, source: Option<Source>) {
        self.registry().census.release(source);
    }

    /// Returns all clients that are connected now, in the order in which they connected.
    ///
    /// A client that comes or leaves during the call may or may not be included. The call does not keep clients
    /// from doing so.
    pub fn clients(&self) -> Arc<[ClientHandle]> {
        Members::snapshot(|| self.registry())
    }

    /// Returns the client with this ID, if it is connected.
    pub fn get(&self, id: ClientId) -> Option<ClientHandle> {
        self.registry().clients.get(id)
    }

    /// Returns the number of connected clients.
    pub fn len(&self) -> usize {
        self.registry().clients.len()
    }

    /// Returns whether no client is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the hub is shutting down and admits no more clients.
    pub fn is_shutting_down(&self) -> bool {
        self.registry().closing.is_some()
    }

    /// Returns the counts since the hub was made.
    pub fn stats(&self) -> HubStats {
        let rooms = self.inner.rooms.len();
        let registry = self.registry();
        let counters = &self.inner.counters;
        HubStats {
            clients: registry.clients.len(),
            peak: registry.peak,
            rooms,
            admitted: registry.admitted,
            refused: counters.refused.value(),
            rate_limited: counters.rate_limited.value(),
            broadcasts: counters.broadcasts.value(),
            broadcast_bytes: counters.broadcast_bytes.value(),
            delivered: counters.delivered.value(),
            dropped: counters.dropped.value(),
            closed_slow: counters.closed_slow.value(),
        }
    }

    /// Stops admitting clients, and returns those to close. The frame of the first call counts.
    pub(crate) fn stop_admitting(&self, frame: CloseFrame) -> Arc<[ClientHandle]> {
        self.registry().closing.get_or_insert(frame);
        self.clients()
    }

    /// Removes a client from the registry.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut registry = self.registry();
        let stale = registry.clients.remove(entry.id);
        registry.census.vacate(entry.source());
        let emptied = registry.clients.is_empty();
        drop(registry);
        drop(stale);
        if emptied {
            self.inner.emptied.notify_waiters();
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // No panic can leave the registry half changed.
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("clients", &self.len()).finish_non_exhaustive()
    }
}
