//! Simulations, run by one thread in virtual time: a server with its hub, clients of several kinds, and the network
//! between them; and, in `cluster`, several nodes with a broker.
//!
//! A seed determines the settings, the clients, the times of their calls, and the faults of their links. For each seed,
//! the following must hold:
//!
//! - An echo is what was sent, in order. News arrive in the order in which their source has published them, once, and
//!   those that are missing in between were counted as dropped.
//! - What a reconnecting client was told to be delivered has arrived, and nothing was left out before it.
//! - Each connection ends for a reason that was there: the network changes no byte, so no end is a violation of the
//!   protocol, and without a failure of the network none is lost.
//! - The hub's counters are the sums of what its calls returned.
//! - Everything ends in time, and nothing is left: no client, no room, no task, and no byte of the memory budget.
//!
//! `cargo xtask simulate` runs many seeds. One seed gives the same program each time, but not always the same schedule:
//! `HashMap`s and `select!` are random.

#![forbid(unsafe_code)]

mod clients;
mod cluster;
mod ledger;
mod link;
mod news;
mod plan;
mod server;
mod world;

use std::cell::Cell;
use std::ops::{AddAssign, Range};
use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

/// The size of a world that was run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The number of clients.
    pub clients: usize,
    /// The number of messages that were delivered to clients.
    pub messages: u64,
    /// The virtual time that it lasted.
    pub time: Duration,
}

/// The kinds of worlds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// A server with its clients.
    Server,
    /// Several nodes with a broker, and their clients.
    Cluster,
}

impl World {
    /// Returns the option of `cargo xtask simulate`.
    fn option(self) -> &'static str {
        match self {
            Self::Server => "",
            Self::Cluster => "--cluster ",
        }
    }
}

/// Runs the world of a seed.
///
/// # Panics
///
/// If anything is not as it must be.
pub fn run(world: World, seed: u64) -> Report {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime without IO");
    watch_for_panics();
    let report = runtime.block_on(async {
        match world {
            World::Server => timeout(LIMIT, world::run(seed)).await,
            World::Cluster => timeout(LIMIT, cluster::run(seed)).await,
        }
        .expect("it ends")
    });
    assert!(!PANICKED.get(), "a task has panicked");
    report
}

thread_local! {
    /// Whether a task has panicked in this thread's world. Tokio tells only the one who awaits the task.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Notes every panic of this thread from now on.
fn watch_for_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            print(panic);
        }));
    });
    PANICKED.set(false);
}

/// Runs the worlds of many seeds, some at a time.
///
/// # Errors
///
/// The seeds whose worlds are not as they must be, after they were printed with the panic of each.
pub fn run_all(world: World, seeds: Range<u64>, threads: usize) -> Result<Report, Vec<u64>> {
    let next = AtomicU64::new(seeds.start);
    let outcome = Mutex::new((Report::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = catch_unwind(|| run(world, seed));
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(report) = result {
                outcome.0 += report;
            } else {
                let option = world.option();
                eprintln!(
                    "This was seed {seed}. To repeat it: cargo xtask simulate {option}--from {seed} --seeds 1"
                );
                outcome.1.push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let (report, failed) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() { Ok(report) } else { Err(failed) }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.clients += other.clients;
        self.messages += other.messages;
        self.time += other.time;
    }
}

/// The virtual time after which a world hangs: it advances whenever nothing else can.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
