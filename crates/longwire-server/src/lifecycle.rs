//! From listening to gone: the server's one-way switch, and the handle that turns it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longwire_hub::{Hub, HubError};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::Shutdown;
use crate::listen::{Listen, Several};
use crate::pending::Pending;

/// What a server and its handles share.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    /// Gone when the server stops: dropping the listener is what closes its port.
    listener: Mutex<Option<Arc<dyn Listen>>>,
    stopped: watch::Sender<bool>,
    shutdown: Mutex<Shutdown>,
    pub(crate) hub: Hub,
    pub(crate) pending: Arc<Pending>,
}

impl Lifecycle {
    pub(crate) fn new(listener: Arc<dyn Listen>, hub: Hub, pending: Arc<Pending>) -> Self {
        Self {
            listener: Mutex::new(Some(listener)),
            stopped: watch::Sender::new(false),
            shutdown: Mutex::default(),
            hub,
            pending,
        }
    }

    pub(crate) fn listener(&self) -> Option<Arc<dyn Listen>> {
        self.lock_listener().clone()
    }

    pub(crate) fn add_listener(&self, more: Arc<dyn Listen>) {
        let mut listener = self.lock_listener();
        let listeners = listener.take().into_iter().chain([more]).collect();
        *listener = Some(Arc::new(Several::new(listeners)));
    }

    /// Closes the listener, as far as nobody is accepting.
    pub(crate) fn stop_listening(&self) {
        let listener = self.lock_listener().take();
        drop(listener);
    }

    pub(crate) fn set_shutdown(&self, shutdown: Shutdown) {
        *self.shutdown.lock().unwrap_or_else(PoisonError::into_inner) = shutdown;
    }

    /// Stops accepting; handshakes that are going on are answered with 503.
    pub(crate) fn stop(&self) {
        self.stop_listening();
        self.pending.close();
        self.stopped.send_replace(true);
    }

    /// Waits until the server was told to stop.
    pub(crate) async fn stopped(&self) {
        // The sender is in `self`: it outlives the wait.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Tells every client, and waits until all have left or were dropped.
    pub(crate) async fn drain(&self) {
        let shutdown = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Shutdown { code, reason, deadline } = shutdown;
        let clients = async {
            let mut drained = self.hub.shutdown(code, &reason, deadline).await;
            if let Err(HubError::InvalidClose(error)) = &drained {
                warn!(%error, "the shutdown's code or reason cannot be sent");
                let Shutdown { code, .. } = Shutdown::default();
                drained = self.hub.shutdown(code, "", deadline).await;
            }
            drained
        };
        match tokio::join!(clients, timeout(deadline, self.pending.emptied())) {
            (Ok(drained), _) if drained.aborted > 0 => {
                warn!(aborted = drained.aborted, "connections were dropped at the deadline of the shutdown");
            }
            _ => debug!("every client has left"),
        }
    }

    fn lock_listener(&self) -> MutexGuard<'_, Option<Arc<dyn Listen>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to a server that runs, or will: cheap to clone, and does not keep it running.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(crate) lifecycle: Arc<Lifecycle>,
}

impl ServerHandle {
    /// The server's clients.
    pub fn hub(&self) -> &Hub {
        &self.lifecycle.hub
    }

    /// Shuts the server down as [`ServerConfig::shutdown`](crate::ServerConfig::shutdown) says.
    ///
    /// This call stops the listening and ends the handshakes that are going on with 503. The returned future closes all
    /// clients and completes when they have left, or were dropped at the deadline. Where [`Server::serve`] runs it does
    /// the same and returns then, so the future may be dropped.
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

    /// Shuts the server down with this code, reason and deadline.
    ///
    /// # Cancel safety
    ///
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_with(&self, shutdown: Shutdown) -> impl Future<Output = ()> + Send + use<> {
        self.lifecycle.set_shutdown(shutdown);
        self.shutdown()
    }
}
