//! What all sockets of an application have in common.

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{CloseCode, Config, Keepalive, MemoryBudget};
use longwire_handshake::ServerOptions;
use longwire_hub::{Hub, HubConfig};

/// How sockets are accepted and behave; the defaults are meant for the open internet.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// How connections behave. Default: that of [`Config`], with [`Keepalive::default`] and a
    /// [`MemoryBudget`] of 1 GiB for the messages that are arriving, as the standalone server has
    /// it. The budget is shared by all sockets of the mount, and by mounts whose configuration is a clone of this one.
    pub connection: Config,
    /// Subprotocols, allowed origins, the path and compression. Default: none, any, any, off.
    pub handshake: ServerOptions,
    /// What happens to clients that do not keep up with broadcasts.
    pub hub: HubConfig,
    /// How long it may take from the request's acceptance until the HTTP server has sent the response and handed over the
    /// connection, in all. Default 10 s.
    pub upgrade_timeout: Duration,
}

impl Default for MountConfig {
    fn default() -> Self {
        Self {
            connection: Config {
                keepalive: Some(Keepalive::default()),
                memory: Some(MemoryBudget::new(MEMORY)),
                ..Config::default()
            },
            handshake: ServerOptions::default(),
            hub: HubConfig::default(),
            upgrade_timeout: Duration::from_secs(10),
        }
    }
}

/// Where sockets are mounted: their configuration, and the [`Hub`] of all clients. Clones are handles to the same one.
///
/// # Examples
///
/// ```
/// use longwire_hyper::{Mount, MountConfig, OriginPolicy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = MountConfig::default();
/// config.handshake.origins = OriginPolicy::only(["https://example.com"])?;
/// config.connection.limits.max_message = Some(64 * 1024);
/// let mount = Mount::new(config);
/// mount.hub().broadcast("to everybody");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mount {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MountConfig,
    hub: Hub,
}

impl Mount {
    /// Makes a mount with a hub of its own.
    pub fn new(config: MountConfig) -> Self {
        let hub = Hub::new(config.hub);
        Self { inner: Arc::new(Inner { config, hub }) }
    }

    /// Makes a mount whose clients join a hub that there is already, such as that of a longwire server.
    ///
    /// [`MountConfig::hub`] does not count: the hub has its own.
    pub fn with_hub(config: MountConfig, hub: Hub) -> Self {
        Self { inner: Arc::new(Inner { config, hub }) }
    }

    /// How sockets are accepted and behave.
    pub fn config(&self) -> &MountConfig {
        &self.inner.config
    }

    /// All clients, to broadcast to and to shut down.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Waits for a signal, then closes every client with code 1001 (going away) and waits for the handlers, for at most `limit`:
    /// what a graceful shutdown of the HTTP server should wait for, as that leaves out the connections that it has handed over.
    ///
    /// From the signal on, requests for a WebSocket get 503. It is [`Hub::shutdown`], which has more to choose from.
    ///
    /// # Cancel safety
    ///
    /// As for [`Hub::shutdown`].
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "axum", doc = "```no_run")]
    #[cfg_attr(not(feature = "axum"), doc = "```ignore")]
    /// use std::time::Duration;
    /// use axum::{Extension, Router, routing::any};
    /// use longwire_hyper::{Mount, axum::WebSocketUpgrade};
    ///
    /// # async fn example() -> std::io::Result<()> {
    /// let mount = Mount::default();
    /// let app = Router::new()
    ///     .route("/", any(|ws: WebSocketUpgrade| async move { ws.on_upgrade(|_ws| async { Ok(()) }) }))
    ///     .layer(Extension(mount.clone()));
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// let signal = std::future::pending::<()>(); // such as that of SIGTERM
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(mount.shutdown_after(signal, Duration::from_secs(10)))
    ///     .await
    /// # }
    /// ```
    pub fn shutdown_after<S: Future>(&self, signal: S, limit: Duration) -> impl Future<Output = ()> + use<S> {
        let hub = self.hub().clone();
        async move {
            signal.await;
            // It fails for codes and reasons that must not be sent, which these are not.
            drop(hub.shutdown(CloseCode::GOING_AWAY, "", limit).await);
        }
    }
}

impl Default for Inner {
    fn default() -> Self {
        let config = MountConfig::default();
        Self { hub: Hub::new(config.hub), config }
    }
}

/// Enough for 64 clients at once with messages of the greatest length, or for 16 000 with 64 KiB.
const MEMORY: usize = 1 << 30;
