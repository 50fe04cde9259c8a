//! Clients of one hub on several runtimes: no runtime is needed for the clients of another.

use std::time::Duration;

use longwire_connection::testing::{Pipe, Tap, duplex, pair_over};
use longwire_connection::{Config, WebSocket};
use longwire_hub::{ClientHandle, ClientInfo, Hub, HubConfig, SlowPolicy, Socket};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

const QUEUE: usize = 1000;
const WAIT: Duration = Duration::from_millis(100);
const LEAVE: Duration = Duration::from_secs(7);

/// A client that no task drives and whose peer does not read.
struct Slow {
    socket: Socket<Pipe>,
    client: ClientHandle,
    peer: WebSocket<Pipe>,
    tap: Tap,
}

fn join(hub: &Hub) -> Slow {
    let (client, server) = duplex(100);
    let tap = client.tap();
    let (peer, server) = pair_over(client, server, &Config::default());
    let socket = hub.admit(server, ClientInfo::default()).expect("there is a place");
    Slow { client: socket.client(), socket, peer, tap }
}

fn fill(client: &ClientHandle) -> usize {
    let prepared = longwire_connection::PreparedMessage::new(vec![0; 90]);
    (0..1000).take_while(|_| client.sender().try_send_prepared(&prepared, QUEUE).is_ok()).count()
}

fn hub(slow: SlowPolicy) -> Hub {
    Hub::new(HubConfig::default().with_slow(slow).with_queue(QUEUE).with_leave_timeout(LEAVE))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// The state of a client's first runtime.
#[derive(Clone, Copy, Debug)]
enum First {
    /// The runtime exists, but never runs anything.
    Busy,
    Gone,
}

/// A runtime that is not driven. It can be dropped in any context.
struct Idle(Option<Runtime>);

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes a hub whose first client came from a runtime that is no longer of use.
fn hub_after(first: First, slow: SlowPolicy) -> (Hub, Slow, Option<Idle>) {
    let hub = hub(slow);
    let runtime = runtime();
    let client = {
        let _entered = runtime.enter();
        join(&hub)
    };
    let runtime = Idle(Some(runtime));
    let left = matches!(first, First::Busy).then_some(runtime);
    (hub, client, left)
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_waits_needs_no_other_runtime() {
    for first in [First::Busy, First::Gone] {
        let (hub, blocked, _runtime) = hub_after(first, SlowPolicy::DropNewest);
        fill(&blocked.client);
        let start = Instant::now();
        let sending = timeout(Duration::from_secs(60), hub.broadcast_waiting(vec![1; 90], WAIT));
        let delivery = sending.await.unwrap_or_else(|_| panic!("{first:?}: no end"));
        assert_eq!(start.elapsed(), WAIT, "{first:?}");
        assert_eq!((delivery.accepted, delivery.dropped), (0, 1), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_room_in_time_gets_the_broadcast_whatever_its_runtime_does() {
    for first in [First::Busy, First::Gone] {
        let (hub, blocked, _runtime) = hub_after(first, SlowPolicy::DropNewest);
        let Slow { client, mut peer, mut socket, .. } = blocked;
        let before = fill(&client);
        let reading = async {
            sleep(WAIT / 2).await;
            for _ in 0..before {
                peer.recv().await.unwrap();
            }
            assert_eq!(peer.recv().await.unwrap(), Some(vec![1; 90].into()), "{first:?}");
        };
        let start = Instant::now();
        let sending = async { tokio::join!(hub.broadcast_waiting(vec![1; 90], WAIT), reading).0 };
        let delivery = tokio::select! {
            delivery = sending => delivery,
            end = socket.recv() => panic!("{first:?}: {end:?}"),
        };
        assert_eq!((delivery.accepted, delivery.dropped), (1, 0), "{first:?}");
        assert!(start.elapsed() < WAIT, "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_latest_value_waits_although_the_runtime_of_its_client_has_ended() {
    let (hub, blocked, _runtime) = hub_after(First::Gone, SlowPolicy::DropNewest);
    let Slow { client, mut peer, mut socket, .. } = blocked;
    client.sender().try_send(vec![0; 20_000]).unwrap();
    for value in ["old", "new"] {
        let delivery = hub.broadcast_latest("key", value);
        assert_eq!((delivery.accepted, delivery.dropped), (1, 0), "{value}");
    }
    let reading = async {
        assert_eq!(peer.recv().await.unwrap(), Some(vec![0; 20_000].into()));
        peer.recv().await.unwrap()
    };
    tokio::select! {
        received = timeout(Duration::from_secs(60), reading) => assert_eq!(received, Ok(Some("new".into()))),
        end = socket.recv() => panic!("{end:?}"),
    }
    assert_eq!((client.dropped(), client.stats().replaced), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn slow_clients_are_dropped_whatever_other_runtimes_do() {
    for first in [First::Busy, First::Gone] {
        let (hub, other, _runtime) = hub_after(first, SlowPolicy::Close);
        let slow = join(&hub);
        let outside = hub.clone();
        fill(&slow.client);
        // The thread has no runtime: a broadcast may come from anywhere.
        std::thread::spawn(move || outside.broadcast(vec![0; 90])).join().unwrap();
        assert!(slow.client.sender().is_closed() && !slow.tap.peer().is_dropped(), "{first:?}");
        sleep(LEAVE + Duration::from_millis(1)).await;
        assert!(slow.tap.peer().is_dropped(), "{first:?}");
        assert!(!other.tap.peer().is_dropped(), "{first:?}: the other is not slow");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_dropped_even_if_its_own_runtime_is_of_no_use() {
    for first in [First::Busy, First::Gone] {
        let (hub, slow, _runtime) = hub_after(first, SlowPolicy::Close);
        fill(&slow.client);
        hub.broadcast(vec![0; 90]);
        assert!(slow.client.sender().is_closed() && !slow.tap.peer().is_dropped(), "{first:?}");
        sleep(LEAVE + Duration::from_millis(1)).await;
        assert!(slow.tap.peer().is_dropped(), "{first:?}");
    }
}

#[test]
fn a_slow_client_is_dropped_at_once_when_nothing_can_keep_its_time() {
    let (hub, slow, _runtime) = hub_after(First::Gone, SlowPolicy::Close);
    fill(&slow.client);
    hub.broadcast(vec![0; 90]);
    assert!(slow.tap.peer().is_dropped());
}

#[test]
fn a_runtime_that_ends_keeps_the_time_for_nobody() {
    let (hub, slow, left) = hub_after(First::Busy, SlowPolicy::Close);
    fill(&slow.client);
    hub.broadcast(vec![0; 90]);
    assert!(!slow.tap.peer().is_dropped());
    drop(left);
    assert!(slow.tap.peer().is_dropped());
}

#[test]
fn a_client_without_a_runtime_has_its_time_from_the_runtime_of_another() {
    let (hub, _other, left) = hub_after(First::Busy, SlowPolicy::Close);
    let slow = join(&hub);
    fill(&slow.client);
    hub.broadcast(vec![0; 90]);
    assert!(slow.client.sender().is_closed());
    assert!(!slow.tap.peer().is_dropped(), "it has time to leave");
    drop(left);
    assert!(slow.tap.peer().is_dropped());
}
