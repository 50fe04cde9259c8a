//! What all sockets of an application have in common.

use std::sync::Arc;
use std::time::Duration;

use longwire_connection::{Config, Keepalive, MemoryBudget};
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
}

impl Default for Inner {
    fn default() -> Self {
        let config = MountConfig::default();
        Self { hub: Hub::new(config.hub), config }
    }
}

/// Enough for 64 clients at once with messages of the greatest length, or for 16 000 with 64 KiB.
const MEMORY: usize = 1 << 30;
