//! The server's one-way path from listening to stopped, and the handle that controls it.

use std::sync::{Arc, PoisonError};

use longwire_connection::Measurements;
use longwire_hub::{Hub, HubError, Shutdown};
use tokio::time::timeout;
use tracing::warn;

use crate::listen::{Listen, Several};
use crate::pending::Pending;
use crate::stats::Counters;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, watch};
use crate::{Error, Listeners, ServerConfig, ServerStats};

/// The state shared by a server and its handles, or by the workers that make up one server.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// One for each [`Server`](crate::Server) of the group. `None` once it stops: dropping a listener closes its
    /// port.
    listeners: Mutex<Vec<Option<Arc<dyn Listen>>>>,
    phase: watch::Sender<Phase>,
    shutdown: Mutex<Shutdown>,
    measurements: Mutex<Option<Measurements>>,
    #[cfg(feature = "tls")]
    pub(crate) new_tls: Arc<crate::tls::Replacement>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) hub: Hub,
    pub(crate) pending: Arc<Pending>,
    /// Set once it is logged that connections were dropped at the deadline.
    has_told_drops: AtomicBool,
}

/// The stages of a server's life, in order. A server never returns to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The server accepts clients.
    Listening,
    /// Another server accepts clients; connected clients stay.
    HandedOver,
    /// All clients must leave.
    Stopped,
}

impl Lifecycle {
    pub(crate) fn new(hub: Hub) -> Self {
        Self {
            listeners: Mutex::default(),
            phase: watch::Sender::new(Phase::Listening),
            shutdown: Mutex::default(),
            measurements: Mutex::default(),
            #[cfg(feature = "tls")]
            new_tls: Arc::default(),
            counters: Arc::default(),
            hub,
            pending: Arc::default(),
            has_told_drops: AtomicBool::default(),
        }
    }

    /// Adds a server to the group and returns its number. If the group no longer listens, the server gets no
    /// listener.
    pub(crate) fn join(&self, listener: Arc<dyn Listen>) -> usize {
        let mut listeners = self.listeners();
        if *self.phase.borrow() != Phase::Listening {
            return usize::MAX;
        }
        listeners.push(Some(listener));
        listeners.len() - 1
    }

    pub(crate) fn listener(&self, number: usize) -> Option<Arc<dyn Listen>> {
        self.listeners().get(number)?.clone()
    }

    /// Adds another listener to a server of the group.
    pub(crate) fn add_listener(&self, number: usize, more: Arc<dyn Listen>) {
        if let Some(listener) = self.listeners().get_mut(number) {
            let listeners = listener.take().into_iter().chain([more]).collect();
            *listener = Some(Arc::new(Several::new(listeners)));
        }
    }

    /// Drops a listener. It closes once no task is accepting from it.
    pub(crate) fn stop_listening(&self, number: usize) {
        let listener = self.listeners().get_mut(number).and_then(Option::take);
        drop(listener);
    }

    /// Applies the settings that concern all servers of the group.
    pub(crate) fn configure(&self, config: &ServerConfig) {
        self.hub.set_config(config.hub);
        self.set_shutdown(config.shutdown.clone());
        let measurements = config.connection.measurements.clone();
        *self.measurements.lock().unwrap_or_else(PoisonError::into_inner) = measurements;
    }

    fn stats(&self) -> ServerStats {
        let measurements = self.measurements.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ServerStats {
            hub: self.hub.stats(),
            traffic: self.hub.traffic(),
            close_codes: self.hub.close_codes(),
            rejections: self.counters.rejections(),
            handshakes: self.counters.handshakes.snapshot(),
            measurements: measurements.map(|measurements| measurements.counts()).unwrap_or_default(),
        }
    }

    fn set_shutdown(&self, shutdown: Shutdown) {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner) = shutdown;
    }

    /// Stops accepting. Handshakes in progress are answered with 503.
    pub(crate) fn stop(&self) {
        let mut listeners = self.listeners();
        let gone = std::mem::take(&mut *listeners);
        self.enter(Phase::Stopped);
        drop(listeners);
        drop(gone);
        self.pending.close();
    }

    /// Stops accepting and returns the listeners.
    fn hand_over(&self) -> Result<Listeners, Error> {
        let mut listeners = self.listeners();
        let mut all = Listeners::default();
        for listener in listeners.iter().flatten() {
            listener.hand_over(&mut all).map_err(Error::HandOver)?;
        }
        // The server no longer listened.
        if all.is_empty() {
            return Err(Error::ShutDown);
        }
        let given_away = std::mem::take(&mut *listeners);
        self.enter(Phase::HandedOver);
        drop(listeners);
        drop(given_away);
        Ok(all)
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = *phase < next;
            *phase = next.max(*phase);
            is_later
        });
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.phase.borrow() == Phase::Stopped
    }

    /// Waits until the server has reached this phase.
    pub(crate) async fn reached(&self, awaited: Phase) {
        // `self` holds the sender, which outlives the wait.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= awaited).await;
    }

    /// Waits until no client is connected and no handshake is in progress.
    pub(crate) async fn deserted(&self) {
        // A client enters the hub before its handshake's ticket is dropped.
        self.pending.emptied().await;
        self.hub.emptied().await;
    }

    /// Closes every client, and waits until all have left or were dropped.
    pub(crate) async fn drain(&self) {
        let shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let deadline = shutdown.deadline;
        let clients = async {
            let drained = self.hub.shutdown_with(&shutdown, |_| None).await;
            let Err(HubError::InvalidClose(error)) = &drained else { return drained };
            warn!(%error, "invalid close code or reason for the shutdown");
            let plain = Shutdown::default().with_deadline(deadline).with_spread(shutdown.spread);
            self.hub.shutdown_with(&plain, |_| None).await
        };
        let (drained, _) = tokio::join!(clients, timeout(deadline, self.pending.emptied()));
        // The server and each caller of a shutdown wait for the same end, which one of them brings about.
        if let Ok(drained) = drained
            && drained.aborted > 0
            && !self.has_told_drops.swap(true, Ordering::Relaxed)
        {
            warn!(aborted = drained.aborted, "connections were dropped at the shutdown deadline");
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Option<Arc<dyn Listen>>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to a server, whether it already runs or not. It is cheap to clone and does not keep the server running.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(crate) lifecycle: Arc<Lifecycle>,
}

impl ServerHandle {
    /// Returns the hub of the server's clients.
    pub fn hub(&self) -> &Hub {
        &self.lifecycle.hub
    }

    /// Returns everything the server has counted so far. It visits every client.
    pub fn stats(&self) -> ServerStats {
        self.lifecycle.stats()
    }

    /// Replaces the TLS configuration of all servers of this handle, whether they run or not.
    ///
    /// TLS handshakes that begin after the call use the new one, also on a server that spoke no TLS before.
    /// Handshakes in progress and established connections continue with theirs. If both configurations are of
    /// [`TlsBuilder`](crate::TlsBuilder), clients cannot resume sessions of the previous one; a
    /// `rustls::ServerConfig` of yours must not share its session storage or ticketer with one that verifies clients
    /// differently. [`Server::tls`](crate::Server::tls) no longer has any effect.
    ///
    /// Changed certificate files need no such call: see
    /// [`TlsBuilder::reload_every`](crate::TlsBuilder::reload_every).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn example(handle: longwire_server::ServerHandle) -> Result<(), longwire_server::TlsError> {
    /// use longwire_server::TlsConfig;
    ///
    /// handle.set_tls(TlsConfig::from_files("new/cert.pem", "new/key.pem")?);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: crate::TlsConfig) {
        self.lifecycle.new_tls.set(tls);
    }

    /// Shuts the server down as configured in [`ServerConfig::shutdown`](crate::ServerConfig::shutdown).
    ///
    /// The call itself stops listening and answers handshakes in progress with 503; a response that is being sent
    /// has the time of [`Shutdown::deadline`]. If TLS or a proxy's header
    /// ([`ServerConfig::proxy_protocol`](crate::ServerConfig::proxy_protocol)) is not complete yet, the client has one
    /// more second for it; after that the connection is closed without a response. The returned future closes all
    /// clients and completes when they have left or were dropped at the deadline. If [`Server::serve`] is running, it
    /// does the same and then returns, so the future may be dropped.
    ///
    /// [`Server::serve`]: crate::Server::serve
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server stays stopped.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let lifecycle = Arc::clone(&self.lifecycle);
        lifecycle.stop();
        async move { lifecycle.drain().await }
    }

    /// Shuts the server down with the given code, reason and deadline.
    ///
    /// # Cancel safety
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_with(&self, shutdown: Shutdown) -> impl Future<Output = ()> + Send + use<> {
        self.lifecycle.set_shutdown(shutdown);
        self.shutdown()
    }

    /// Stops accepting and returns the server's listeners, so that another server or another process can continue
    /// with them. No connection is refused in between: connections not yet accepted stay in the listeners' queues.
    ///
    /// Connected clients stay until they leave, and handshakes in progress continue. If [`Server::serve`] is
    /// running, it returns when the last client has left; a [`shutdown`](Self::shutdown) before that closes them.
    ///
    /// # Errors
    ///
    /// [`Error::ShutDown`] if the server no longer listens. [`Error::HandOver`] if a listener cannot be handed
    /// over, because a custom [`Listen`] does not support it or the process is out of descriptors;
    /// the server then continues as before.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example(old: longwire_server::ServerHandle) -> Result<(), longwire_server::Error> {
    /// use longwire_server::Server;
    ///
    /// let listeners = old.hand_over()?;
    /// Server::from_listeners(listeners)?.serve(|_, _| async { Ok(()) }).await
    /// # }
    /// ```
    ///
    /// [`Server::serve`]: crate::Server::serve
    pub fn hand_over(&self) -> Result<Listeners, Error> {
        self.lifecycle.hand_over()
    }
}

#[cfg(all(test, longwire_loom))]
mod models;
