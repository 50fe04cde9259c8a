//! The faults of a world, until its time is over.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::node::{Node, lock};
use super::plan::{Fault, Plan};
use super::{Way, World};
use crate::plan::part;

/// Lets things go wrong, several at a time, until the time is over.
pub(crate) async fn happen(world: Arc<World>, mut rng: Rng, pause: Duration, is_silent: bool) {
    let mut faults = JoinSet::new();
    loop {
        sleep(part(&mut rng, pause)).await;
        let left = world.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let (fault, time) = Plan::fault(&mut rng, is_silent);
        let until = Instant::now() + time.min(left);
        let happens = happen_once(Arc::clone(&world), rng.fork(), fault, until);
        if matches!(world.way, Way::Memory(_)) {
            // It cannot tell two faults of one node apart.
            happens.await;
        } else {
            faults.spawn(happens);
        }
    }
    while let Some(fault) = faults.join_next().await {
        fault.expect("no panic");
    }
}

async fn happen_once(world: Arc<World>, mut rng: Rng, fault: Fault, until: Instant) {
    match fault {
        Fault::Leave | Fault::Vanish => replace(&world, &mut rng, fault == Fault::Vanish, until).await,
        Fault::Outage => match &world.way {
            Way::Memory(broker) => {
                broker.pause();
                sleep_until(until).await;
                broker.resume();
            }
            Way::Wire(broker) => {
                broker.stop();
                sleep_until(until).await;
                broker.start();
                // Each finds it some time later.
                let mut nodes = world.nodes();
                rng.shuffle(&mut nodes);
                for node in nodes {
                    sleep(Duration::from_millis(rng.u64(..500))).await;
                    broker.heal(node.id);
                }
            }
        },
        _ => {
            let Some(node) = world.pick(&mut rng) else { return };
            afflict(&world, &node, fault, until).await;
        }
    }
}

/// A fault of one connection.
async fn afflict(world: &World, node: &Node, fault: Fault, until: Instant) {
    let id = node.id;
    match &world.way {
        Way::Memory(broker) => {
            match fault {
                Fault::Cut => broker.cut(id),
                Fault::Stall | Fault::Reset => broker.cut_silently(id),
                _ => return,
            }
            sleep_until(until).await;
            broker.heal(id);
        }
        Way::Wire(broker) => {
            match fault {
                Fault::Cut => broker.cut(id),
                Fault::Stall | Fault::Reset => broker.stall(id),
                Fault::Refusal => broker.refuse(id, until),
                Fault::Loss(loss) => broker.lose(id, until, loss),
                Fault::Outage | Fault::Leave | Fault::Vanish => unreachable!("it is more than a connection"),
            }
            sleep_until(until).await;
            match fault {
                Fault::Cut => broker.heal(id),
                Fault::Stall => broker.resume(id),
                Fault::Reset => broker.reset(id),
                _ => {}
            }
        }
    }
}

/// Ends a node, and starts another one in its place.
async fn replace(world: &World, rng: &mut Rng, is_sudden: bool, until: Instant) {
    let place = rng.usize(..lock(&world.places).len());
    let Some(node) = lock(&world.places)[place].take() else { return };
    if is_sudden {
        world.record.lock().node_goes(node.number, true);
        world.kill(node.id);
    } else if let Some(cluster) = node.cluster() {
        world.record.lock().node_goes(node.number, false);
        cluster.leave().await;
        // Its clients are alone for a while.
        sleep(Duration::from_millis(rng.u64(..1000))).await;
    }
    node.end(&world.record);
    drop(node);
    sleep_until(until).await;
    world.start_node(place).await;
}
