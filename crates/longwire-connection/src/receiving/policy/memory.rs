//! A limit on the memory that many connections together hold for incomplete messages and for compressors.
//!
//! Owns the sum, and the choice of the connection that must release memory or be closed. [`Limits`](crate::Limits)
//! bound a single message; this budget bounds many peers that each stay below those limits.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;

use longwire_protocol::ProtocolError;

use crate::Error;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

/// A limit on the memory that connections together hold for incomplete messages and for compressors.
///
/// Clones share one budget. It applies to the connections whose [`Config::memory`](crate::Config::memory) contains it.
///
/// For each connection, the budget counts the memory of the message that is arriving (decompressed), the
/// decompressor that an incomplete compressed message needs, and the compressor (counted as 384 KiB) that the
/// connection keeps between messages until it has been idle for
/// [`Config::deflate_idle`](crate::Config::deflate_idle). While the sum is above the limit:
///
/// - Compressors are returned to the pool, starting with the one kept longest. No connection is closed for this: its
///   next message takes about 10 µs longer to send at level 1, and gets a few percent longer.
/// - A connection whose message alone takes more than the limit is closed with code 1009, as for a message above
///   [`Limits::max_message`](crate::Limits::max_message).
/// - A connection whose message grows is closed with code 1013 (try again later) if it holds more than its share.
///   The share is the limit divided by the number of connections that hold any memory, so small messages do not
///   suffer from large ones.
/// - Otherwise, the connection that holds the most is closed with code 1013, even if its message does not grow. The
///   connection whose message grows continues while the sum exceeds the limit by at most an eighth; beyond that, it
///   is closed too.
/// - A compressor in the middle of a message that is sent in parts cannot be returned. If such compressors would
///   push the sum more than an eighth above the limit, their connections are closed with code 1013, the latest
///   first.
///
/// The close frame is sent at once, even if the connection's task is waiting for something else.
///
/// The sum therefore never exceeds the limit by more than an eighth, for any number of connections. In addition, each
/// connection that is being polled may hold the data of one call that is not counted yet: a read of up to 132 KiB, or
/// the message that it decompresses to, of up to the longest length allowed, and one compressor. Compressors and
/// decompressors that wait in a [pool](crate::deflate::Pool) are bounded by its own options.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, MemoryBudget};
///
/// let budget = MemoryBudget::new(256 << 20);
/// let config = Config::default().with_memory(budget.clone());
/// assert_eq!(budget.used(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    used: AtomicUsize,
    /// The part of `used` held by connections that were chosen to be closed and are not gone yet.
    leaving: AtomicUsize,
    /// The number of connections that hold memory.
    holders: AtomicUsize,
    /// The next name: a number that distinguishes the entries of `large` and `compressors`.
    names: AtomicU64,
    /// The connections that hold at least [`LISTED`] bytes, by size and name, without those that were chosen to be
    /// closed.
    large: Mutex<BTreeMap<(usize, u64), Arc<Entry>>>,
    /// The connections that keep a compressor, the one kept longest first.
    #[cfg(feature = "deflate")]
    compressors: Mutex<BTreeMap<u64, Weak<dyn Member>>>,
}

/// A connection, as seen by the budget.
///
/// No method waits for a lock that the calling thread may hold, so a caller may hold its own connection's lock.
pub(crate) trait Member: Send + Sync {
    /// Closes the connection with code 1013, at once.
    fn shed(&self);
    /// Gives the connection's compressor back; if that is in the middle of a message, closes the connection with
    /// code 1013.
    #[cfg(feature = "deflate")]
    fn shed_compressor(&self);
    /// Gives the connection's compressor back. Returns whether it keeps none now.
    #[cfg(feature = "deflate")]
    fn park(&self) -> bool;
}

/// A connection that can be chosen to be closed.
#[derive(Debug)]
struct Entry {
    /// Set once the connection was chosen to be closed.
    is_chosen: AtomicBool,
    /// The connection's part of [`Shared::leaving`].
    leaving: AtomicUsize,
    member: Weak<dyn Member>,
    /// The task that receives.
    waker: Mutex<Option<Waker>>,
}

impl MemoryBudget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let shared = Shared {
            limit,
            used: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            names: AtomicU64::new(0),
            large: Mutex::default(),
            #[cfg(feature = "deflate")]
            compressors: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the limit, in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Returns the number of bytes in use.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Returns the bytes that each holder may have when the limit is reached.
    fn share(&self) -> usize {
        self.limit / self.holders.load(Ordering::Relaxed).max(1)
    }

    /// Returns the greatest sum that is allowed.
    fn most(&self) -> usize {
        self.limit.saturating_add(self.limit / 8)
    }

    /// Chooses the connection that holds the most, if it holds more than its share. That connection is closed, and
    /// its task releases its memory.
    #[cold]
    fn choose(&self) {
        let mut listed = lock(&self.large);
        let chosen =
            listed.last_entry().filter(|most| most.key().0 > self.share()).map(OccupiedEntry::remove_entry);
        if let Some(((held, _), entry)) = &chosen {
            // Until it is gone, no other connection needs to be closed for the same bytes.
            self.leaving.fetch_add(*held, Ordering::Relaxed);
            entry.leaving.store(*held, Ordering::Relaxed);
            entry.is_chosen.store(true, Ordering::Release);
        }
        drop(listed);
        if let Some((_, entry)) = chosen {
            // Its task may be waiting for something else, and would not check here before that arrives.
            if let Some(member) = entry.member.upgrade() {
                member.shed();
            }
            let waker = lock(&entry.waker).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Compares identity, not contents.
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

#[cfg(feature = "deflate")]
impl MemoryBudget {
    /// Counts a compressor that the connection keeps from now on.
    pub(crate) fn keep(&self, member: Weak<dyn Member>) -> Kept {
        let name = self.shared.names.fetch_add(1, Ordering::Relaxed);
        self.shared.used.fetch_add(COMPRESSOR, Ordering::Relaxed);
        lock(&self.shared.compressors).insert(name, member);
        Kept { budget: self.clone(), name }
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// Makes connections give compressors back until the sum is within the limit. Returns the connections whose
    /// compressor is in use and cannot be given back.
    fn park(&self) -> Vec<Arc<dyn Member>> {
        let mut busy = Vec::new();
        let mut from = 0;
        while self.is_exceeded() {
            // No lock is held while another is acquired: giving a compressor back removes it from this list.
            let next =
                lock(&self.shared.compressors).range(from..).next().map(|(&name, of)| (name, of.upgrade()));
            let Some((name, member)) = next else { break };
            from = name + 1;
            if let Some(member) = member
                && !member.park()
            {
                busy.push(member);
            }
        }
        busy
    }

    /// Brings the sum back within its bound after a compressor was added.
    #[cold]
    pub(crate) fn relieve(&self) {
        let mut busy = self.park();
        while self.used() > self.shared.most()
            && let Some(member) = busy.pop()
        {
            member.shed_compressor();
        }
    }
}

/// A compressor that a connection keeps. It counts until this is dropped.
#[cfg(feature = "deflate")]
#[derive(Debug)]
pub(crate) struct Kept {
    budget: MemoryBudget,
    name: u64,
}

#[cfg(feature = "deflate")]
impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.budget.shared.compressors).remove(&self.name);
        self.budget.shared.used.fetch_sub(COMPRESSOR, Ordering::Relaxed);
    }
}

#[cfg(feature = "deflate")]
const COMPRESSOR: usize = longwire_protocol::Outbound::COMPRESSOR_MEMORY;

/// One connection's part of a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    budget: MemoryBudget,
    held: usize,
    /// The name and entry of a connection that holds at least [`LISTED`] bytes.
    large: Option<Box<(u64, Arc<Entry>)>>,
}

/// The ways to reach a connection, which the budget keeps once it may choose it to be closed.
#[derive(Clone, Copy)]
pub(crate) struct Contact<'a> {
    /// Wakes its receiving task.
    pub(crate) waker: &'a Waker,
    pub(crate) member: &'a dyn Fn() -> Weak<dyn Member>,
}

impl Holding {
    pub(crate) fn new(budget: MemoryBudget) -> Self {
        Self { budget, held: 0, large: None }
    }

    /// Records that the connection now holds `held` bytes. Returns whether it may hold that much.
    #[inline]
    pub(crate) fn hold(&mut self, held: usize, contact: Contact<'_>) -> bool {
        (held == self.held && self.large.is_none()) || self.change(held, Some(contact))
    }

    /// Returns the error for a connection that may not hold what it holds now.
    ///
    /// A message that alone takes more than the whole budget is too long, as one above the limit on messages is: the
    /// peer must not be asked to try again. What counts is the memory, which grows ahead of a fragmented message, so
    /// that this can concern one from half of the budget on.
    #[cold]
    pub(crate) fn error(&self) -> Error {
        let max = self.budget.limit();
        let is_chosen = self.large.as_ref().is_some_and(|large| large.1.is_chosen.load(Ordering::Acquire));
        if self.held <= max || is_chosen {
            return Error::OutOfMemory;
        }
        Error::Protocol(ProtocolError::MessageTooLong { len: self.held as u64, max })
    }

    /// Returns whether this connection holds so much that the budget may choose it to be closed.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        self.large.is_some()
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        if self.held > 0 {
            self.change(0, None);
        }
    }

    #[cold]
    fn change(&mut self, held: usize, contact: Option<Contact<'_>>) -> bool {
        let shared = Arc::clone(&self.budget.shared);
        let before = std::mem::replace(&mut self.held, held);
        if before == 0 && held > 0 {
            shared.holders.fetch_add(1, Ordering::Relaxed);
        } else if before > 0 && held == 0 {
            shared.holders.fetch_sub(1, Ordering::Relaxed);
        }
        self.list(before, contact);
        if self.large.as_ref().is_some_and(|large| large.1.is_chosen.load(Ordering::Acquire)) {
            self.settle(before);
            return false;
        }
        #[cfg_attr(not(feature = "deflate"), allow(unused_mut))]
        let mut used = self.settle(before);
        if held <= before || used <= shared.limit {
            return true;
        }
        #[cfg(feature = "deflate")]
        {
            self.budget.park();
            used = self.budget.used();
            if used <= shared.limit {
                return true;
            }
        }
        if held > shared.share() {
            return false;
        }
        if used.saturating_sub(shared.leaving.load(Ordering::Relaxed)) > shared.limit {
            shared.choose();
        }
        used <= shared.most()
    }

    /// Updates the sum and returns it. Whoever sees the bytes of another in the sum also sees that other among the
    /// holders.
    fn settle(&self, before: usize) -> usize {
        let used = &self.budget.shared.used;
        if self.held >= before {
            used.fetch_add(self.held - before, Ordering::AcqRel) + (self.held - before)
        } else {
            used.fetch_sub(before - self.held, Ordering::AcqRel) - (before - self.held)
        }
    }

    /// Updates the connection's place among those that hold at least [`LISTED`] bytes.
    fn list(&mut self, before: usize, contact: Option<Contact<'_>>) {
        let shared = &self.budget.shared;
        if self.held < LISTED {
            if let Some(large) = self.large.take()
                && lock(&shared.large).remove(&(before, large.0)).is_none()
            {
                shared.leaving.fetch_sub(large.1.leaving.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
            return;
        }
        let Some(Contact { waker, member }) = contact else { return };
        let large = self.large.get_or_insert_with(|| {
            let entry = Entry {
                is_chosen: AtomicBool::new(false),
                leaving: AtomicUsize::new(0),
                member: member(),
                waker: Mutex::default(),
            };
            Box::new((shared.names.fetch_add(1, Ordering::Relaxed), Arc::new(entry)))
        });
        let known = &mut *lock(&large.1.waker);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        if self.held != before {
            let mut listed = lock(&shared.large);
            listed.remove(&(before, large.0));
            if !large.1.is_chosen.load(Ordering::Acquire) {
                listed.insert((self.held, large.0), Arc::clone(&large.1));
            }
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.release();
    }
}

/// Connections that hold less than this are never chosen: listing them would cost more than it saves.
const LISTED: usize = 16 * 1024;

#[cfg(all(test, longwire_loom))]
mod models;

#[cfg(all(test, not(longwire_loom)))]
mod tests {
    use super::*;

    /// A connection that is gone.
    fn nobody() -> Weak<dyn Member> {
        struct Nobody;
        impl Member for Nobody {
            fn shed(&self) {}
            #[cfg(feature = "deflate")]
            fn shed_compressor(&self) {}
            #[cfg(feature = "deflate")]
            fn park(&self) -> bool {
                true
            }
        }
        Weak::<Nobody>::new()
    }

    const NOBODY: Contact<'static> = Contact { waker: Waker::noop(), member: &nobody };

    #[test]
    fn whoever_holds_more_than_its_share_has_to_go() {
        let budget = MemoryBudget::new(1000);
        let mut holdings = [(); 4].map(|()| Holding::new(budget.clone()));
        let mut hold = |i: usize, held| holdings[i].hold(held, NOBODY);
        assert!(hold(0, 600), "there is room");
        assert!(hold(1, 400), "for all of it");
        assert_eq!(budget.used(), 1000);
        assert!(hold(2, 125), "no more than a third, and within an eighth above");
        assert!(!hold(1, 500), "more than a third");
        assert!(!hold(2, 126), "beyond the eighth");
        assert!(hold(0, 500), "less than before is always well");
        assert!(!hold(0, 501));
        drop(holdings);
        assert_eq!((budget.used(), budget.shared.holders.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn the_sum_is_bounded_however_many_hold() {
        let budget = MemoryBudget::new(64 << 20);
        let mut most = 0;
        let mut refused = 0;
        let holdings: Vec<_> = (1..=10_000)
            .map(|k| {
                let mut holding = Holding::new(budget.clone());
                // As much as each may hold when it arrives, without growing further: without a bound, ten times the
                // limit.
                if !holding.hold((64 << 20) / k, NOBODY) {
                    holding.release();
                    refused += 1;
                }
                most = most.max(budget.used());
                holding
            })
            .collect();
        assert!(most <= (64 << 20) + (8 << 20), "{most}");
        assert!(refused > 0);
        drop(holdings);
        assert_eq!(budget.used(), 0);
        assert!(lock(&budget.shared.large).is_empty());
    }

    #[test]
    fn one_goes_where_one_is_enough() {
        let budget = MemoryBudget::new(1_000_000);
        let holding = || Holding::new(budget.clone());
        let mut large: Vec<_> = (0..10).map(|_| holding()).collect();
        for one in &mut large {
            assert!(one.hold(99_000, NOBODY));
        }
        let mut small: Vec<_> = (0..20).map(|_| holding()).collect();
        for one in &mut small {
            assert!(one.hold(2_000, NOBODY));
        }
        large.retain_mut(|one| one.hold(99_000, NOBODY));
        assert_eq!(large.len(), 9);
        assert_eq!(budget.shared.leaving.load(Ordering::Relaxed), 0);
        // The next one goes when the sum exceeds the limit again.
        for one in &mut small {
            assert!(one.hold(8_000, NOBODY));
        }
        large.retain_mut(|one| one.hold(99_000, NOBODY));
        assert_eq!(large.len(), 8);
    }

    #[test]
    fn who_holds_16_kib_can_be_chosen() {
        let budget = MemoryBudget::new(100_000);
        let mut holding = Holding::new(budget.clone());
        for (held, is_listed) in [(16_383, false), (16_384, true), (100, false)] {
            assert!(holding.hold(held, NOBODY));
            assert_eq!(lock(&budget.shared.large).len(), usize::from(is_listed), "{held}");
        }
    }

    #[test]
    fn the_largest_goes_though_it_does_not_grow() {
        let budget = MemoryBudget::new(100_000);
        let mut large = Holding::new(budget.clone());
        let mut small = Holding::new(budget.clone());
        assert!(large.hold(90_000, NOBODY));
        assert!(small.hold(12_000, NOBODY), "less than its share");
        assert!(!large.hold(90_000, NOBODY), "chosen");
        large.release();
        assert_eq!(budget.used(), 12_000);
        assert!(small.hold(90_000, NOBODY));
    }
}
