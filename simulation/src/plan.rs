//! The properties of a world that its seed determines.

use std::time::Duration;

use fastrand::Rng;
use longwire::reconnect::Confirm;
use longwire::{Config, HubConfig, Keepalive, MemoryBudget, ServerConfig, Shutdown, SlowPolicy};

/// The size of a world, its settings, and the source of its later decisions.
pub(crate) struct Plan {
    pub(crate) rng: Rng,
    pub(crate) policy: SlowPolicy,
    pub(crate) server: ServerConfig,
    pub(crate) budget: Option<MemoryBudget>,
    pub(crate) client: Config,
    /// Whether both ends compress.
    pub(crate) deflate: bool,
    pub(crate) clients: Vec<(Kind, Duration)>,
    pub(crate) publishers: usize,
    /// The time until which things happen. After it, no link fails any more.
    pub(crate) duration: Duration,
    /// Whether the server is shut down before the clients have ended.
    pub(crate) is_abrupt: bool,
}

/// The activity of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sends messages, and expects each of them back.
    Echo,
    /// Joins rooms, and receives; with a pause after each message.
    Subscriber { pause: Duration },
    /// Publishes to rooms, by the server's handler.
    Publisher,
    /// Keeps a connection, and sends what must arrive.
    Reconnecting(Confirm),
    /// Is gone after a while, without a close.
    Vanishing,
}

/// The properties of one link.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) capacity: usize,
    /// The most bytes that arrive together.
    pub(crate) chunk: usize,
    pub(crate) latency: Duration,
    pub(crate) fault: Option<(Duration, Fault)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    /// Nothing arrives any more, in both directions, and neither end learns of it.
    HalfOpen,
    Stall(Duration),
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let policy = [SlowPolicy::Close, SlowPolicy::DropNewest, SlowPolicy::DropOldest][rng.usize(..3)];
        let hub = HubConfig::default()
            .with_slow(policy)
            .with_queue([500, 5000, 50_000, 1 << 20][rng.usize(..4)])
            .with_leave_timeout(Duration::from_secs(rng.u64(1..10)));
        let budget = (rng.u8(..4) == 0).then(|| MemoryBudget::new(1 << rng.u32(19..23)));
        let connection = |rng: &mut Rng| {
            Config::default()
                // Without it, a half-open connection would be kept for ever.
                .with_keepalive(Keepalive::default())
                .with_send_queue(1 << rng.u32(9..17))
                .with_close_timeout(Duration::from_secs(rng.u64(1..10)))
        };
        let own = connection(&mut rng).with_memory(budget.clone());
        let spread = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..3000) });
        let mut server = ServerConfig::default().with_hub(hub).with_connection(own).with_shutdown(
            Shutdown::default().with_spread(spread).with_deadline(spread + Duration::from_secs(10)),
        );
        let deflate = rng.bool();
        server.handshake.deflate = deflate.then(Default::default);
        let duration = Duration::from_secs(rng.u64(5..120));
        let client = connection(&mut rng);
        let most = if rng.u8(..100) == 0 { 2000 } else { 30 };
        let count = rng.usize(1..most);
        let clients = (0..count).map(|_| (kind(&mut rng), part(&mut rng, duration / 2))).collect();
        Self {
            policy,
            server,
            budget,
            client,
            deflate,
            clients,
            publishers: rng.usize(..3),
            duration,
            is_abrupt: rng.u8(..4) == 0,
            rng,
        }
    }

    /// Returns the properties of the next link, which fails only before the end of the time.
    pub(crate) fn route(rng: &mut Rng, left: Duration) -> Route {
        let fault = match rng.u8(..8) {
            _ if left.is_zero() => None,
            0 => Some(Fault::Cut),
            1 => Some(Fault::HalfOpen),
            2 => Some(Fault::Stall(part(rng, Duration::from_secs(60)))),
            _ => None,
        };
        // With a delay after each piece, a connection of few bytes a second could not answer a ping in time.
        let is_slow = rng.bool();
        Route {
            capacity: 1 << if is_slow { rng.u32(12..17) } else { rng.u32(6..17) },
            chunk: 1 << if is_slow { rng.u32(12..16) } else { rng.u32(3..16) },
            latency: Duration::from_millis(if is_slow { rng.u64(1..200) } else { 0 }),
            fault: fault.map(|fault| (part(rng, left), fault)),
        }
    }
}

fn kind(rng: &mut Rng) -> Kind {
    match rng.u8(..10) {
        0..3 => Kind::Echo,
        3..5 => Kind::Subscriber { pause: Duration::ZERO },
        5 => Kind::Subscriber { pause: Duration::from_millis(rng.u64(1..2000)) },
        6 => Kind::Publisher,
        7 => Kind::Reconnecting(Confirm::Pong),
        8 => Kind::Reconnecting(Confirm::Written),
        _ => Kind::Vanishing,
    }
}

/// Returns a part of a time, of any length.
pub(crate) fn part(rng: &mut Rng, of: Duration) -> Duration {
    of.mul_f64(rng.f64())
}

/// Returns text of a length that is small in most cases.
pub(crate) fn padding(rng: &mut Rng) -> String {
    let len = match rng.u8(..20) {
        0 => rng.usize(..100_000),
        1..4 => rng.usize(..5000),
        _ => rng.usize(..200),
    };
    "-".repeat(len)
}
