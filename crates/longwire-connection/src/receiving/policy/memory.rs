//! A bound on the memory of messages that have begun to arrive, for many connections together.
//!
//! Owns what is counted and who has to go. A single message is bounded by [`Limits`](crate::Limits); this is for many peers
//! that each stay below that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longwire_protocol::CloseCode;
use tokio::time::Instant;

use crate::receiving::reader::Reader;
use crate::{Error, Transport};

/// How much memory messages that have begun to arrive may take, for all connections that share it; clones are the same budget.
///
/// Each connection's unfinished message counts with the memory reserved for it, at most eight times what has arrived, and
/// with its decompressor of 48 KiB if it is compressed. When that of all is above the limit, a connection
/// whose message grows is closed with 1013 (try again later) if it holds more than its share, which is the limit divided
/// by the connections that hold any; so those with small messages do not suffer from those with large ones. A message may be
/// above for the time of one read, which compression can make as large as [`Limits::max_message`](crate::Limits).
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, MemoryBudget};
///
/// let budget = MemoryBudget::new(256 << 20);
/// let config = Config { memory: Some(budget.clone()), ..Config::default() };
/// assert_eq!(budget.used(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    used: AtomicUsize,
    /// Connections that hold any of it.
    holders: AtomicUsize,
}

impl MemoryBudget {
    /// Makes a budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        let shared = Shared { limit, used: AtomicUsize::new(0), holders: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// How many bytes are taken now.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }
}

/// Whether two are the same budget, not whether they are alike.
impl PartialEq for MemoryBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for MemoryBudget {}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("limit", &self.limit()).field("used", &self.used()).finish()
    }
}

/// One connection's part in a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    budget: MemoryBudget,
    held: usize,
}

impl Holding {
    pub(crate) fn new(budget: MemoryBudget) -> Self {
        Self { budget, held: 0 }
    }

    /// Takes note that so much is held now; whether it may be.
    #[inline]
    fn hold(&mut self, held: usize) -> bool {
        held == self.held || self.change(held)
    }

    #[cold]
    fn change(&mut self, held: usize) -> bool {
        let shared = &*self.budget.shared;
        let before = std::mem::replace(&mut self.held, held);
        if before == 0 {
            shared.holders.fetch_add(1, Ordering::Relaxed);
        } else if held == 0 {
            shared.holders.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(growth) = held.checked_sub(before) else {
            shared.used.fetch_sub(before - held, Ordering::Relaxed);
            return true;
        };
        let used = shared.used.fetch_add(growth, Ordering::Relaxed) + growth;
        used <= shared.limit || held <= shared.limit / shared.holders.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl<T: Transport> Reader<T> {
    /// Counts what the message that is arriving takes; ends the connection where there is no room for it.
    #[inline]
    pub(crate) fn count_memory(&mut self) {
        if let Some(holding) = &mut self.holding
            && !holding.hold(self.inbound.held())
        {
            self.shed();
        }
    }

    #[cold]
    fn shed(&mut self) {
        self.shared.lock().fail(CloseCode::TRY_AGAIN_LATER);
        self.inbound.end();
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
        self.ending.begin(Err(Error::OutOfMemory));
        if let Some(holding) = &mut self.holding {
            holding.hold(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_more_than_its_share_has_to_go() {
        let budget = MemoryBudget::new(1000);
        let mut holdings = [(); 4].map(|()| Holding::new(budget.clone()));
        assert!(holdings[0].hold(600), "there is room");
        assert!(holdings[1].hold(400), "for all of it");
        assert_eq!(budget.used(), 1000);
        assert!(holdings[2].hold(333), "no more than a third");
        assert!(!holdings[1].hold(500), "more than a third");
        assert!(!holdings[2].hold(334));
        assert!(holdings[3].hold(250));
        assert!(holdings[0].hold(500), "less than before is always well");
        assert!(!holdings[0].hold(501));
        drop(holdings);
        assert_eq!((budget.used(), budget.shared.holders.load(Ordering::Relaxed)), (0, 0));
    }
}
