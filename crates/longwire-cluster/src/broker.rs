//! Options and time limits that the clients of all real brokers share.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "tls")]
use tokio_rustls::rustls::ClientConfig;

/// The options of the connection to a broker.
#[derive(Clone)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// The beginning of the names of all channels. Clusters with different prefixes share a broker without hearing each
    /// other. It consists of letters, digits, `-`, `_` and single dots between them. Default `longwire`.
    pub prefix: String,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ClientConfig>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            prefix: "longwire".into(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl BrokerOptions {
    /// Sets [`prefix`](Self::prefix).
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the configuration for TLS: other roots, or a certificate of the node. Default: what the operating system
    /// trusts, and no certificate. TLS itself is asked for by the URL, or by the broker.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, config: ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Returns whether the names of channels are legal.
    pub(crate) fn has_valid_prefix(&self) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        self.prefix.split('.').all(|part| !part.is_empty() && part.bytes().all(is_plain))
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Returns how long to wait before an attempt to connect, of which `failed` have failed before.
pub(crate) fn back_off(failed: usize) -> Duration {
    let doublings = u32::try_from(failed).unwrap_or(u32::MAX).min(6);
    jittered((FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT))
}

/// Returns between half of a time and all of it.
pub(crate) fn jittered(wait: Duration) -> Duration {
    // Without random bytes, all nodes try at the same time.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The time that a broker has to answer. Shorter than the time that a node gives a call.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);

/// The time that connecting may take, with all that belongs to it.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// The time after which a connection is tested.
pub(crate) const PING: Duration = Duration::from_secs(2);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        for (failed, longest) in [(0, 100), (1, 200), (3, 800), (6, 4000), (usize::MAX, 4000)] {
            let wait = back_off(failed).as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{failed}: {wait}");
        }
    }

    #[test]
    fn prefixes_are_plain() {
        for (prefix, is_valid) in [
            ("longwire", true),
            ("a.b-c_1", true),
            ("", false),
            ("a..b", false),
            (".a", false),
            ("a b", false),
            ("a*", false),
        ] {
            assert_eq!(
                BrokerOptions::default().with_prefix(prefix).has_valid_prefix(),
                is_valid,
                "{prefix:?}"
            );
        }
    }
}
