//! The properties of a world that its seed determines.

use std::time::Duration;

use fastrand::Rng;

use super::broker::Character;
use crate::plan::part;

/// The size of a world, its settings, and the source of its later decisions.
pub(crate) struct Plan {
    pub(crate) rng: Rng,
    /// The broker in virtual time; `None` for the one in the process.
    pub(crate) broker: Option<Character>,
    pub(crate) nodes: usize,
    pub(crate) users: usize,
    pub(crate) rooms: usize,
    pub(crate) lease: Duration,
    pub(crate) linger: Duration,
    pub(crate) inbox: usize,
    pub(crate) outbox: usize,
    /// The time until which things happen and fail.
    pub(crate) duration: Duration,
    /// The longest time between two faults; `None` if nothing fails.
    pub(crate) faults: Option<Duration>,
    /// Whether messages may be lost without a word.
    pub(crate) is_silent: bool,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The broker is away, and with it all connections.
    Outage,
    /// The connection of a node is lost.
    Cut,
    /// Nothing arrives at a node or from it. After that, everything does.
    Stall,
    /// Nothing arrives at a node or from it. After that, the connection is a new one.
    Reset,
    /// What a node publishes is refused.
    Refusal,
    /// Some of what is sent to a node does not arrive.
    Loss(Loss),
    /// A node leaves, and another one takes its place.
    Leave,
    /// A node ends without a word, and another one takes its place.
    Vanish,
}

/// The report of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    OfChannel,
    OfAny,
    Silent,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        // Other numbers than those of the worlds with one server.
        let mut rng = Rng::with_seed(seed ^ 0x636c_7573_7465_7221);
        let lease = Duration::from_millis([300, 1000, 3000, 15_000][rng.usize(..4)]);
        // A broker must answer within a third of a lease.
        let latency = Duration::from_millis([0, 5, 200][rng.usize(..3)]).min(lease / 8);
        let character = Character {
            latency,
            confirms: rng.bool(),
            echoes: rng.bool(),
            max_payload: if rng.u8(..4) == 0 { 2000 } else { usize::MAX },
        };
        let sizes = [3000, 30_000, 16 << 20, 16 << 20];
        Self {
            broker: (rng.u8(..4) != 0).then_some(character),
            nodes: rng.usize(2..=5),
            users: rng.usize(2..20),
            rooms: rng.usize(1..=6),
            lease,
            linger: Duration::from_millis([0, 50, 1000, 5000][rng.usize(..4)]),
            inbox: sizes[rng.usize(..4)],
            outbox: sizes[rng.usize(..4)],
            duration: Duration::from_secs(rng.u64(5..60)),
            faults: (rng.u8(..6) != 0).then(|| Duration::from_millis([300, 3000, 10_000][rng.usize(..3)])),
            is_silent: rng.u8(..4) == 0,
            rng,
        }
    }

    /// Returns the next fault, and how long it lasts.
    pub(crate) fn fault(rng: &mut Rng, is_silent: bool) -> (Fault, Duration) {
        let fault = match rng.u8(..16) {
            0..2 => Fault::Outage,
            2..5 => Fault::Cut,
            5..7 => Fault::Stall,
            7..9 => Fault::Reset,
            9..11 => Fault::Refusal,
            11 => Fault::Loss(Loss::OfChannel),
            12 => Fault::Loss(Loss::OfAny),
            13 if is_silent => Fault::Loss(Loss::Silent),
            13 | 14 => Fault::Leave,
            _ => Fault::Vanish,
        };
        let most = Duration::from_millis([100, 1000, 8000, 20_000][rng.usize(..4)]);
        (fault, part(rng, most))
    }
}
