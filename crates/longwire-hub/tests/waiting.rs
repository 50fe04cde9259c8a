//! Broadcasts that wait for space, and policies of single clients.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair_over};
use longwire_connection::{Config, Error, Message, WebSocket};
use longwire_hub::{ClientHandle, ClientInfo, Hub, HubConfig, SlowPolicy};
use tokio::time::{Instant, sleep, timeout};

const QUEUE: usize = 1000;
const WAIT: Duration = Duration::from_secs(30);

/// Adds a client that receives over a connection that holds 100 bytes, and runs the hub's end of it.
fn join(hub: &Hub, info: ClientInfo) -> (ClientHandle, WebSocket<Pipe>) {
    let (client, server) = duplex(100);
    let (client, server) = pair_over(client, server, &Config::default());
    tokio::spawn(hub.run(server, info, |mut ws| async move {
        while ws.recv().await?.is_some() {}
        Ok::<_, Error>(())
    }));
    (hub.clients().last().expect("it was registered by the call").clone(), client)
}

/// Broadcasts until this client has no space for another 90 bytes.
fn fill(client: &ClientHandle) -> usize {
    let mut count = 0;
    while client.sender().try_send_prepared(&Message::from(vec![0; 90]).into(), QUEUE).is_ok() {
        count += 1;
    }
    count
}

fn hub(slow: SlowPolicy) -> Hub {
    Hub::new(HubConfig::default().with_slow(slow).with_queue(QUEUE))
}

async fn next(client: &mut WebSocket<Pipe>) -> Message {
    let received = timeout(Duration::from_secs(1), client.recv()).await.expect("a message is there");
    received.expect("the connection is well").expect("the connection is open")
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_waits_reaches_a_slow_client_when_it_has_room_and_delays_nobody() {
    let hub = hub(SlowPolicy::Close);
    let (slow, mut slow_peer) = join(&hub, ClientInfo::default());
    let (_, mut quick_peer) = join(&hub, ClientInfo::default());
    let before = fill(&slow);
    let start = Instant::now();
    let sending = hub.broadcast_waiting(vec![1; 90], WAIT);
    let reading = async {
        assert_eq!(next(&mut quick_peer).await, vec![1; 90].into());
        assert_eq!(start.elapsed(), Duration::ZERO, "the other one has waited for nobody");
        sleep(Duration::from_secs(20)).await;
        for _ in 0..before {
            assert_eq!(next(&mut slow_peer).await, vec![0; 90].into());
        }
        assert_eq!(next(&mut slow_peer).await, vec![1; 90].into());
    };
    let (delivery, ()) = tokio::join!(sending, reading);
    assert_eq!((delivery.accepted, delivery.dropped), (2, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(20), "no longer than it had to");
    let stats = hub.stats();
    assert_eq!((stats.broadcasts, stats.broadcast_bytes, stats.delivered), (1, 90, 2));
}

#[tokio::test(start_paused = true)]
async fn many_slow_clients_are_waited_for_at_once_and_meet_their_policies_at_the_deadline() {
    let hub = hub(SlowPolicy::Close);
    let policies = [None, Some(SlowPolicy::DropNewest), Some(SlowPolicy::DropOldest)];
    let mut clients = Vec::new();
    for n in 0..30 {
        let (client, peer) = join(&hub, ClientInfo::default().slow_policy(policies[n % 3]));
        fill(&client);
        clients.push((client, peer));
    }
    let start = Instant::now();
    let delivery = hub.broadcast_waiting(vec![1; 90], WAIT).await;
    assert_eq!(start.elapsed(), WAIT, "one wait for all");
    assert_eq!((delivery.accepted, delivery.dropped), (10, 30), "those of the new ones, and one each");
    assert_eq!((hub.stats().closed_slow, hub.stats().dropped), (10, 30));
    for (n, (client, peer)) in clients.iter_mut().enumerate() {
        assert_eq!(client.dropped(), 1, "client {n}");
        let mut got = 0;
        let end = loop {
            match timeout(Duration::from_millis(10), peer.recv()).await {
                Ok(Ok(Some(message))) => got += usize::from(message == vec![1; 90].into()),
                Ok(end) => break Some(end),
                Err(_) => break None,
            }
        };
        assert_eq!(got, usize::from(n % 3 == 2), "client {n}");
        let is_closed = matches!(&end, Some(Err(Error::ClosedByPeer(frame))) if frame.code == 1013.into());
        assert_eq!(is_closed, n % 3 == 0, "client {n}: {end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_room_before_it_is_waited_for_is_counted() {
    let hub = hub(SlowPolicy::Close);
    let mut clients: Vec<_> = (0..257).map(|_| join(&hub, ClientInfo::default())).collect();
    let (slow, peer) = &mut clients[0];
    let before = fill(slow);
    let mut sending = pin!(hub.broadcast_waiting(vec![1; 90], WAIT));
    // The call yields before it reaches the last client.
    assert!(poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await.is_pending());
    for _ in 0..before {
        next(peer).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(slow.sender().queued(), 0);
    let start = Instant::now();
    let delivery = sending.await;
    assert_eq!((delivery.accepted, delivery.dropped, start.elapsed()), (257, 0, Duration::ZERO));
    assert_eq!(next(peer).await, vec![1; 90].into());
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_that_waits_does_not_wait_for_those_who_leave() {
    let hub = hub(SlowPolicy::DropNewest);
    let (leaving, mut peer) = join(&hub, ClientInfo::default());
    let (lost, lost_peer) = join(&hub, ClientInfo::default());
    fill(&leaving);
    fill(&lost);
    let start = Instant::now();
    let sending = hub.broadcast_waiting(vec![1; 90], WAIT);
    let ending = async {
        sleep(Duration::from_secs(1)).await;
        leaving.sender().start_close(1000, "").unwrap();
        drop(lost_peer);
    };
    let (delivery, ()) = tokio::join!(sending, ending);
    assert_eq!((delivery.accepted, delivery.dropped), (0, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    while peer.recv().await.unwrap().is_some() {}
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_a_broadcast_is_taken_back() {
    let hub = hub(SlowPolicy::Close);
    let (slow, mut peer) = join(&hub, ClientInfo::default());
    let before = fill(&slow);
    let waited = timeout(Duration::from_secs(1), hub.broadcast_waiting(vec![1; 90], WAIT)).await;
    assert!(waited.is_err(), "{waited:?}");
    for _ in 0..before {
        assert_eq!(next(&mut peer).await, vec![0; 90].into());
    }
    let more = timeout(WAIT, peer.recv()).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(hub.stats().closed_slow, 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_is_waited_for_as_well() {
    let hub = hub(SlowPolicy::DropNewest);
    let (member, mut peer) = join(&hub, ClientInfo::default());
    let (other, _other_peer) = join(&hub, ClientInfo::default());
    member.join("room").unwrap();
    assert_eq!(hub.publish_waiting("nobody's", "x", WAIT).await.accepted, 0);
    let before = fill(&member);
    fill(&other);
    let reading = async {
        sleep(Duration::from_secs(2)).await;
        for _ in 0..=before {
            next(&mut peer).await;
        }
    };
    let (delivery, ()) = tokio::join!(hub.publish_waiting("room", "x", WAIT), reading);
    assert_eq!((delivery.accepted, delivery.dropped), (1, 0));
}

#[test]
fn without_a_runtime_a_broadcast_does_not_wait() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hub = hub(SlowPolicy::DropNewest);
    let (client, server) = duplex(100);
    let (_client, server) = pair_over(client, server, &Config::default());
    let socket = hub.admit(server, ClientInfo::default()).unwrap();
    fill(&socket.client());
    let mut sending = pin!(hub.broadcast_waiting(vec![1; 90], WAIT));
    let polled = sending.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(matches!(polled, Poll::Ready(delivery) if delivery.dropped == 1), "{polled:?}");
    drop(runtime);
}

#[tokio::test(start_paused = true)]
async fn each_client_can_have_a_policy_of_its_own() {
    let hub = hub(SlowPolicy::DropNewest);
    let (usual, _usual_peer) = join(&hub, ClientInfo::default());
    let (strict, _strict_peer) = join(&hub, ClientInfo::default().slow_policy(SlowPolicy::Close));
    assert_eq!((usual.slow_policy(), strict.slow_policy()), (None, Some(SlowPolicy::Close)));
    fill(&usual);
    fill(&strict);
    assert_eq!(hub.broadcast(vec![1; 90]).dropped, 2);
    assert!(!usual.sender().is_closed());
    assert!(strict.sender().is_closed());
    usual.set_slow_policy(SlowPolicy::DropOldest);
    let delivery = hub.broadcast(vec![2; 90]);
    assert_eq!((delivery.accepted, delivery.dropped), (1, 1), "room was made");
    usual.set_slow_policy(None);
    let delivery = hub.broadcast(vec![3; 90]);
    assert_eq!((delivery.accepted, delivery.dropped), (0, 1));
    assert_eq!((usual.dropped(), strict.dropped()), (3, 1));
}
