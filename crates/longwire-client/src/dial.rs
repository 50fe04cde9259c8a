//! Connects to a host over TCP: resolves its name and races its addresses (RFC 8305).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::Error;

/// A resolver of host names.
#[derive(Clone, Default)]
pub(crate) enum Resolver {
    /// The system's resolver.
    #[default]
    System,
    /// A function of the caller.
    Custom(Arc<dyn Fn(String, u16) -> Resolving + Send + Sync>),
}

/// The pending answer of the caller's resolver.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl Resolver {
    /// Returns the addresses of a host.
    ///
    /// If the future is dropped, a query that the system's resolver has started continues on its thread.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        // An IP address needs no resolver, least of all the caller's.
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found = match self {
            // Only the system knows the indexes of its interfaces.
            Self::Custom(resolve) if !host.contains(ZONE) => resolve(host.to_owned(), port).await,
            _ => lookup_host((host, port)).await.map(Iterator::collect),
        };
        let found = found.map_err(|source| Error::Resolve { host: host.to_owned(), source })?;
        debug!(host, addresses = ?found, "resolved a name");
        Ok(found)
    }
}

/// The means of a client to reach a host over TCP.
#[derive(Clone, Default)]
pub(crate) struct Dialer {
    pub(crate) resolver: Resolver,
    /// The address to connect from; the system's choice if `None`.
    pub(crate) local_addr: Option<IpAddr>,
}

impl Dialer {
    /// Returns the addresses of a host.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
        self.resolver.resolve(host, port).await
    }

    /// Connects to one of the addresses of a server or a proxy over TCP.
    pub(crate) async fn dial(
        &self,
        host: &str,
        port: u16,
        addresses: Vec<SocketAddr>,
    ) -> Result<TcpStream, Error> {
        tcp(host, port, addresses, self.local_addr).await
    }
}

/// Returns a host in the form that the system's resolver expects: an IPv6 address includes its zone.
pub(crate) fn with_zone<'a>(host: &'a str, zone: Option<&str>) -> Cow<'a, str> {
    match zone {
        Some(zone) => Cow::Owned(format!("{host}{ZONE}{zone}")),
        None => Cow::Borrowed(host),
    }
}

/// The separator between an address and its zone (RFC 4007 §11); no other host contains it.
const ZONE: char = '%';

/// Returns the error for a host that resolved to no address.
pub(crate) fn no_address(host: &str) -> Error {
    Error::Resolve { host: host.to_owned(), source: without_address() }
}

/// Connects to one of a host's addresses over TCP, from a local address if one is given.
///
/// If the future is dropped, all attempts end.
async fn tcp(
    host: &str,
    port: u16,
    mut addresses: Vec<SocketAddr>,
    local: Option<IpAddr>,
) -> Result<TcpStream, Error> {
    addresses.retain(|address| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()));
    let attempt = move |address| async move {
        let Some(local) = local else { return TcpStream::connect(address).await };
        let socket = if local.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(local, 0))?;
        socket.connect(address).await
    };
    race(addresses, attempt)
        .await
        .inspect(|stream| {
            debug!(peer_addr = stream.peer_addr().ok().map(display), "connected over TCP");
            // A small frame must not wait for the acknowledgment of the previous one. A failure costs only time; on
            // macOS this call already fails if the server has reset the connection, which a later call reports better.
            let _ = stream.set_nodelay(true);
        })
        .map_err(|source| Error::Connect { host: host.to_owned(), port, source })
}

/// Tries the addresses in order and returns the first connection that succeeds. The next attempt starts when one
/// fails or [`ATTEMPT_DELAY`] has passed.
async fn race<T, F>(addresses: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    if let [address] = addresses[..] {
        return attempt(address).await;
    }
    let mut waiting = alternate_families(addresses);
    // Dropping the set ends the remaining attempts.
    let mut attempts = JoinSet::new();
    let mut failure = without_address();
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.spawn(attempt(address));
        }
        let finished = if waiting.is_empty() {
            attempts.join_next().await
        } else {
            match timeout(ATTEMPT_DELAY, attempts.join_next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            }
        };
        match finished {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => {
                debug!(%error, "one of the addresses cannot be reached");
                failure = error;
            }
            Some(Err(error)) => failure = error.into(),
            None => return Err(failure),
        }
    }
}

fn without_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the host has no usable address")
}

/// Orders addresses so that the families alternate, starting with the resolver's preferred one (RFC 8305 §4).
fn alternate_families(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut preferred, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_ipv4);
    let mut order = VecDeque::with_capacity(preferred.len() + other.len());
    while !(preferred.is_empty() && other.is_empty()) {
        order.extend(preferred.pop_front());
        order.extend(other.pop_front());
    }
    order
}

/// "Connection Attempt Delay ... Recommended to be 250 milliseconds" (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    /// Simulates an attempt whose outcome depends on the port.
    async fn attempt(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            port @ 1..=9 => Ok(port),
            port @ 10..=19 => {
                sleep(Duration::from_millis(100)).await;
                Ok(port)
            }
            port @ 20..=29 => Err(io::Error::other(port.to_string())),
            _ => pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn takes_the_first_address_that_answers() {
        for (case, list, winner, millis) in [
            ("one address", &["127.0.0.1:1"][..], 1, 0),
            ("the first", &["127.0.0.1:1", "127.0.0.1:2"], 1, 0),
            ("the second, as the first refuses", &["127.0.0.1:20", "127.0.0.1:2"], 2, 0),
            ("the second, as the first is silent", &["127.0.0.1:30", "127.0.0.1:2"], 2, 250),
            ("the other family first", &["[::1]:30", "[::1]:31", "127.0.0.1:2"], 2, 250),
            ("the slow first", &["127.0.0.1:10", "127.0.0.1:2"], 10, 100),
            ("after two silent ones", &["127.0.0.1:30", "127.0.0.1:31", "127.0.0.1:12"], 12, 600),
        ] {
            let start = Instant::now();
            assert_eq!(race(addresses(list), attempt).await.expect(case), winner, "{case}");
            assert_eq!(start.elapsed(), Duration::from_millis(millis), "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reports_the_last_failure() {
        for (list, failure) in [
            (&["127.0.0.1:20"][..], "20"),
            (&["127.0.0.1:20", "127.0.0.1:21"], "21"),
            (&[], "the host has no usable address"),
        ] {
            assert_eq!(race(addresses(list), attempt).await.unwrap_err().to_string(), failure);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_zone_is_looked_up_by_the_system() {
        let custom = Resolver::Custom(Arc::new(|_, _| Box::pin(async { Ok(Vec::new()) })));
        for resolver in [Resolver::System, custom] {
            for (zone, index) in [("lo", 1), ("1", 1), ("7", 7)] {
                let found = resolver.resolve(&with_zone("fe80::1", Some(zone)), 81).await.unwrap();
                let expected = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 81, 0, index);
                assert_eq!(found, [SocketAddr::V6(expected)], "{zone}");
            }
            assert!(resolver.resolve(&with_zone("fe80::1", Some("no-such")), 81).await.is_err());
        }
    }

    #[test]
    fn lets_the_families_take_turns() {
        let given = addresses(&["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:1", "127.0.0.1:2"]);
        let order = addresses(&["[::1]:1", "127.0.0.1:1", "[::1]:2", "127.0.0.1:2", "[::1]:3"]);
        assert_eq!(alternate_families(given), order);
    }
}
