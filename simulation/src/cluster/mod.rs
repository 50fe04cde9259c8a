//! A simulation of clusters: several nodes with a broker that delays, breaks and loses, and users who move between the
//! nodes, run by one thread in virtual time.
//!
//! For each seed, the following must hold:
//!
//! - A client receives the messages of a node to the same clients in order, each at most once, and only those that were
//!   sent while it could be meant: not its own if it is excepted, and none of a room that it has left.
//! - What it should have received, and has not, is covered by a gap: on its node, after the last message before, and
//!   not after the next one. Members of a room are told of each gap.
//! - Once nothing fails any more, each node knows who is in each room, and has told its changes without contradiction.
//! - The counters are the sums of what has happened, and nobody is subscribed to a room without need.
//! - Everything ends in time, and no task is left.

mod broker;
mod check;
mod faults;
mod node;
mod plan;
mod record;
mod users;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use longwire::cluster::{ClusterOptions, Memory, NodeId};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Report;
use broker::Broker;
use node::{Node, lock};
use plan::Plan;
use record::{Record, To};

/// The state that the tasks of a world share.
struct World {
    record: Record,
    way: Way,
    options: ClusterOptions,
    rooms: usize,
    users: usize,
    /// The places for nodes, which are empty now and then.
    places: Mutex<Vec<Option<Arc<Node>>>>,
    /// The time from which on nothing fails any more.
    end: Instant,
}

/// The broker.
enum Way {
    Memory(Memory),
    Wire(Broker),
}

impl World {
    /// Returns one of the nodes.
    fn pick(&self, rng: &mut Rng) -> Option<Arc<Node>> {
        let running = self.nodes();
        (!running.is_empty()).then(|| Arc::clone(&running[rng.usize(..running.len())]))
    }

    /// Returns all nodes.
    fn nodes(&self) -> Vec<Arc<Node>> {
        lock(&self.places).iter().flatten().cloned().collect()
    }

    /// Starts a node in a place, as soon as the broker is there.
    async fn start_node(&self, place: usize) {
        let options = self.options.clone().with_name(place.to_string());
        loop {
            let joined = match &self.way {
                Way::Memory(broker) => Node::join(broker.clone(), options.clone(), &self.record).await,
                Way::Wire(broker) => Node::join(broker.connection(), options.clone(), &self.record).await,
            };
            match joined {
                Ok(node) => {
                    lock(&self.places)[place] = Some(Arc::new(node));
                    return;
                }
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn kill(&self, node: NodeId) {
        match &self.way {
            Way::Memory(broker) => broker.cut_silently(node),
            Way::Wire(broker) => broker.kill(node),
        }
    }
}

/// Runs the world of a seed.
///
/// # Panics
///
/// If anything is not as it must be.
pub(crate) async fn run(seed: u64) -> Report {
    let begin = Instant::now();
    let mut plan = Plan::new(seed);
    let (way, carrier) = match plan.broker {
        None => (Way::Memory(Memory::new()), None),
        Some(character) => {
            let broker = Broker::new(plan.rng.fork(), character);
            let carrier = tokio::spawn(broker.clone().run());
            (Way::Wire(broker), Some(carrier))
        }
    };
    let options = ClusterOptions::default()
        .with_lease(plan.lease)
        .with_linger(plan.linger)
        .with_inbox(plan.inbox)
        .with_outbox(plan.outbox);
    let world = Arc::new(World {
        record: Record::new(),
        way,
        options,
        rooms: plan.rooms,
        users: plan.users,
        places: Mutex::new(vec![None; plan.nodes]),
        end: begin + plan.duration,
    });
    let mut tasks = JoinSet::new();
    for place in 0..plan.nodes {
        let (world, wait) = (Arc::clone(&world), Duration::from_millis(plan.rng.u64(..1000)));
        tasks.spawn(async move {
            sleep(wait).await;
            world.start_node(place).await;
        });
    }
    for user in 0..plan.users {
        tasks.spawn(users::live(Arc::clone(&world), user, plan.rng.fork()));
    }
    if let Some(pause) = plan.faults {
        tasks.spawn(faults::happen(Arc::clone(&world), plan.rng.fork(), pause, plan.is_silent));
    }
    sleep_until(world.end).await;
    if let Way::Wire(broker) = &world.way {
        broker.heal_all();
    }
    timeout(Duration::from_secs(60), async {
        while let Some(task) = tasks.join_next().await {
            task.expect("no panic");
        }
    })
    .await
    .expect("users and faults end in time");
    assert_eq!(world.nodes().len(), plan.nodes, "all nodes are back");

    check::presence(&world, &plan).await;
    if plan.is_silent {
        // A silent loss is noticed with the next message.
        say_something(&world);
        sleep(Duration::from_secs(2)).await;
    }
    check::all(&world, &plan);
    let report = {
        let log = world.record.lock();
        let messages = log.sessions.iter().map(|session| session.received.len() as u64).sum();
        Report { clients: log.sessions.len(), messages, time: begin.elapsed() }
    };
    end(&world).await;
    if let Some(carrier) = carrier {
        carrier.abort();
    }
    drop(world);
    nothing_is_left().await;
    report
}

/// Publishes a message of each node to everyone to whom it has published before.
fn say_something(world: &World) {
    for node in world.nodes() {
        let mut log = world.record.lock();
        let streams: Vec<_> =
            log.published.keys().filter(|(number, _)| *number == node.number).copied().collect();
        for (number, to) in streams {
            let text = log.publishes(number, to, None, 0);
            match to {
                To::All => node.hub.broadcast(text),
                To::Room(_) => node.hub.publish(to.to_string(), text),
                To::User(_) => node.hub.send_to(to.to_string(), text),
            };
        }
    }
}

/// Ends the nodes, one after the other.
async fn end(world: &World) {
    for node in world.nodes() {
        let cluster = node.cluster().expect("it runs");
        let asked = Instant::now();
        cluster.leave().await;
        assert!(asked.elapsed() < Duration::from_secs(3), "node {} leaves at once", node.number);
        node.end(&world.record);
    }
    lock(&world.places).clear();
    if let Way::Wire(broker) = &world.way {
        assert!(broker.is_empty(), "no connection is left");
    }
}

/// Waits for the tasks that close in the background.
async fn nothing_is_left() {
    let begin = Instant::now();
    let alive = || Handle::current().metrics().num_alive_tasks();
    while alive() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{} tasks are left", alive());
        sleep(Duration::from_secs(1)).await;
    }
}
