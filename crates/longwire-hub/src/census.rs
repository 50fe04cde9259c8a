//! Counts of clients and reserved places, in all and by address. The registry's lock protects them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::HubConfig;
use crate::error::HubError;

/// The origin of a client for limits per address: an IPv4 address, or an IPv6 network of 64 bits, which is the
/// least that one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<SocketAddr> for Source {
    fn from(addr: SocketAddr) -> Self {
        // A socket for both families reports IPv4 peers as IPv6 addresses, all of them in one network.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The number of connected clients, and of places reserved for clients to come.
#[derive(Debug, Default)]
pub(crate) struct Census {
    reserved: usize,
    connected: usize,
    /// Clients and places by source, if the source is known.
    by_source: HashMap<Source, usize>,
}

impl Census {
    /// Counts a reserved place, if one is free.
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

    /// Counts a place that was reserved without a source for this one, if one more client from it is allowed.
    pub(crate) fn assign(&mut self, source: Source, config: &HubConfig) -> Result<(), HubError> {
        if let Some(limit) = config.max_clients_per_address
            && self.by_source.get(&source).copied().unwrap_or(0) >= limit
        {
            return Err(HubError::FullForAddress { limit });
        }
        *self.by_source.entry(source).or_default() += 1;
        Ok(())
    }

    /// Turns a reserved place into a client's.
    pub(crate) fn occupy(&mut self) {
        self.reserved -= 1;
        self.connected += 1;
    }

    /// Gives back a reserved place that no client used.
    pub(crate) fn release(&mut self, source: Option<Source>) {
        self.reserved -= 1;
        self.forget(source);
    }

    /// Gives back a client's place.
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
                // A burst of addresses must not cost memory forever after.
                if self.by_source.capacity() > SPARE && self.by_source.len() < self.by_source.capacity() / 8 {
                    self.by_source.shrink_to(SPARE);
                }
            }
        }
    }
}

/// The number of addresses for which the table keeps its memory.
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
        let full = census.by_source.capacity();
        for n in 0..1000 {
            census.vacate(source(n));
            let (left, capacity) = (census.by_source.len(), census.by_source.capacity());
            // A table that is not cut loses some of its capacity to places that cannot be used again.
            assert!(left < full / 8 || capacity > full / 2, "{left} left: {capacity}");
            assert!(left >= full / 32 || capacity < full / 2, "{left} left: {capacity}");
        }
        assert!(census.by_source.is_empty() && census.by_source.capacity() < 4 * SPARE);
        assert_eq!((census.connected, census.reserved), (0, 0));
    }
}
