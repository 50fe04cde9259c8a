//! How many clients there may be, in all and from one address.
//!
//! Owns the counts, which live behind the registry's lock, and the [`Place`] that an edge takes before it answers a
//! handshake. What clients cost once they are connected is limited elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{Hub, HubConfig, HubError};

/// Whom an address stands for: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer has at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<SocketAddr> for Source {
    fn from(addr: SocketAddr) -> Self {
        // A socket for both families shows IPv4 peers as IPv6 addresses, all of them in one network.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// How many clients there are, and places kept for those who come.
#[derive(Debug, Default)]
pub(crate) struct Census {
    reserved: usize,
    connected: usize,
    /// Clients and places by where they come from, as far as that is known.
    by_source: HashMap<Source, usize>,
}

impl Census {
    /// Counts a place, if there is room for one more.
    pub(crate) fn reserve(&mut self, source: Option<Source>, config: &HubConfig) -> Result<(), HubError> {
        if let Some(limit) = config.max_clients
            && self.connected + self.reserved >= limit
        {
            return Err(HubError::Full { limit });
        }
        if let (Some(limit), Some(source)) = (config.max_clients_per_address, source)
            && self.by_source.get(&source).copied().unwrap_or(0) >= limit
        {
            return Err(HubError::FullForAddress { limit });
        }
        self.reserved += 1;
        if let Some(source) = source {
            *self.by_source.entry(source).or_default() += 1;
        }
        Ok(())
    }

    /// Counts a place that was for no address for this one, if there is room for one more from there.
    pub(crate) fn assign(&mut self, source: Source, config: &HubConfig) -> Result<(), HubError> {
        if let Some(limit) = config.max_clients_per_address
            && self.by_source.get(&source).copied().unwrap_or(0) >= limit
        {
            return Err(HubError::FullForAddress { limit });
        }
        *self.by_source.entry(source).or_default() += 1;
        Ok(())
    }

    /// Makes a place that was counted a client's.
    pub(crate) fn occupy(&mut self) {
        self.reserved -= 1;
        self.connected += 1;
    }

    /// Gives a place back that no client came to.
    pub(crate) fn release(&mut self, source: Option<Source>) {
        self.reserved -= 1;
        self.forget(source);
    }

    /// Gives a client's place back.
    pub(crate) fn vacate(&mut self, source: Option<Source>) {
        self.connected -= 1;
        self.forget(source);
    }

    fn forget(&mut self, source: Option<Source>) {
        let Some(source) = source else { return };
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
                // A burst of addresses must not be paid for ever after.
                if self.by_source.capacity() > SPARE && self.by_source.len() < self.by_source.capacity() / 8 {
                    self.by_source.shrink_to(SPARE);
                }
            }
        }
    }
}

/// A place for a client that is still on its way; dropped, it is free again.
///
/// An edge [reserves](Hub::reserve) one before it answers the opening handshake, when it can still say 503, and hands it
/// over with [`ClientInfo::place`](crate::ClientInfo::place).
#[must_use = "dropped, the place is free again"]
pub struct Place {
    pub(crate) hub: Hub,
    pub(crate) source: Option<Source>,
    /// Whether a client has it: then that gives it back.
    pub(crate) occupied: bool,
}

impl Place {
    /// Sets the address that the place is for, if it was reserved without one: an edge may learn it after it has reserved the
    /// place. It changes nothing if the place has an address.
    ///
    /// # Errors
    ///
    /// [`HubError::FullForAddress`] by [`HubConfig::max_clients_per_address`]: the place is still for no address.
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

    /// Whether a client from there can have the place. One for no address becomes a place for its address.
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
    /// Keeps a place for a client from this address, if there is one.
    ///
    /// # Errors
    ///
    /// [`HubError::Full`] and [`HubError::FullForAddress`] by the limits in [`HubConfig`];
    /// [`HubError::ShuttingDown`]. The client should be answered with status 503.
    pub fn reserve(&self, peer_addr: impl Into<Option<SocketAddr>>) -> Result<Place, HubError> {
        self.reserve_for(peer_addr.into().map(Source::from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.occupied {
            self.hub.give_back(self.source);
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("source", &self.source).finish_non_exhaustive()
    }
}

/// For how many addresses the table keeps its memory.
const SPARE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_for_whoever_has_them() {
        let source = |addr: &str| Source::from(addr.parse::<SocketAddr>().unwrap());
        for (case, one, other, same) in [
            ("ports", "192.0.2.1:1", "192.0.2.1:2", true),
            ("addresses", "192.0.2.1:1", "192.0.2.2:1", false),
            ("interfaces", "[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::2]:1", true),
            ("networks", "[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false),
            ("IPv4 within IPv6", "[::ffff:192.0.2.1]:1", "192.0.2.1:1", true),
            ("two of IPv4 within IPv6", "[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", false),
        ] {
            assert_eq!(source(one) == source(other), same, "{case}: {one} and {other}");
        }
    }

    #[test]
    fn nothing_is_left_of_those_who_have_left() {
        let mut census = Census::default();
        let config = HubConfig::default();
        let source = |n: u32| Some(Source::V4(Ipv4Addr::from_bits(n)));
        for n in 0..1000 {
            census.reserve(source(n), &config).unwrap();
            census.occupy();
        }
        for n in 0..1000 {
            census.vacate(source(n));
        }
        assert!(census.by_source.is_empty() && census.by_source.capacity() < 1000);
        assert_eq!((census.connected, census.reserved), (0, 0));
    }
}
