//! Places reserved for clients to come, before an edge answers a handshake.
//!
//! The number of connected clients is limited here, in all and from one address; their cost is limited elsewhere.

use std::fmt;
use std::net::SocketAddr;

use crate::census::Source;
use crate::error::HubError;
use crate::registry::Hub;

/// A place reserved for a client that is not connected yet. It is free again when it is dropped.
///
/// An edge [reserves](Hub::reserve) a place before it answers the opening handshake, while it can still answer
/// with 503, and passes it on with [`ClientInfo::reservation`](crate::ClientInfo::reservation).
#[must_use = "dropped, the reservation is given back"]
pub struct Reservation {
    hub: Hub,
    source: Option<Source>,
    /// Set once a client has the place; the client then gives it back when it leaves.
    occupied: bool,
}

impl Reservation {
    pub(crate) fn new(hub: &Hub, source: Option<Source>) -> Result<Self, HubError> {
        hub.reserve_for(source)?;
        Ok(Self { hub: hub.clone(), source, occupied: false })
    }

    /// Leaves the place to a client that was registered.
    pub(crate) fn occupy(mut self) {
        self.occupied = true;
    }

    /// Sets the address that the place is for, if it was reserved without one: an edge may learn the address only
    /// after it has reserved the place. Has no effect if the place already has an address.
    ///
    /// # Errors
    ///
    /// [`HubError::FullForAddress`] if
    /// [`HubConfig::max_clients_per_address`](crate::HubConfig::max_clients_per_address) is reached; the place still
    /// has no address.
    pub fn set_peer_addr(&mut self, peer_addr: SocketAddr) -> Result<(), HubError> {
        match self.source {
            Some(_) => Ok(()),
            None => self.assign(peer_addr.into()),
        }
    }

    fn assign(&mut self, source: Source) -> Result<(), HubError> {
        self.hub.assign(source)?;
        self.source = Some(source);
        Ok(())
    }

    /// Returns whether a client from this source can have the place. A place without a source is assigned to this one.
    pub(crate) fn fits(&mut self, hub: &Hub, source: Option<Source>) -> Result<bool, HubError> {
        if !self.hub.is_same(hub) {
            return Ok(false);
        }
        match source {
            Some(source) if self.source.is_none() => self.assign(source).map(|()| true),
            _ => Ok(self.source == source),
        }
    }
}

impl Hub {
    /// Reserves a place for a client at this address, if one is free.
    ///
    /// # Errors
    ///
    /// [`HubError::Full`] and [`HubError::FullForAddress`] if a limit in [`HubConfig`](crate::HubConfig) is reached;
    /// [`HubError::ShuttingDown`] during a shutdown. Answer the client with status 503.
    pub fn reserve(&self, peer_addr: impl Into<Option<SocketAddr>>) -> Result<Reservation, HubError> {
        Reservation::new(self, peer_addr.into().map(Source::from))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.occupied {
            self.hub.give_back(self.source);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("source", &self.source).finish_non_exhaustive()
    }
}
