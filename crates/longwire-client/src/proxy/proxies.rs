//! The choice of a proxy for a server.

use std::sync::Arc;

use longwire_handshake::WebSocketUri;

use super::{Environment, ProxyUri};
use crate::InvalidOption;

/// The source of a client's proxy.
#[derive(Clone, Default)]
pub(crate) enum Proxies {
    /// No proxy.
    #[default]
    None,
    /// One proxy for all servers.
    One(Arc<ProxyUri>),
    /// The proxies that the environment names.
    Environment(Arc<Environment>),
}

impl Proxies {
    /// Returns the proxy for a server, if there is one.
    pub(crate) fn find(&self, uri: &WebSocketUri) -> Result<Option<&ProxyUri>, InvalidOption> {
        match self {
            Self::None => Ok(None),
            Self::One(proxy) => Ok(Some(proxy)),
            Self::Environment(environment) => environment.find(uri),
        }
    }
}
