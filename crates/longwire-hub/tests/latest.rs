//! Latest values: a client that does not keep up gets the newest value of each key.

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair_over};
use longwire_connection::{Config, Message, WebSocket};
use longwire_hub::{ClientInfo, Hub, HubConfig, SlowPolicy, Socket};

/// Admits a client over a pipe that holds `capacity` bytes.
fn connect(hub: &Hub, capacity: usize) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = duplex(capacity);
    let (client, server) = pair_over(client, server, &Config::default());
    let socket = hub.admit(server, ClientInfo::default()).unwrap();
    socket.join("prices").unwrap();
    (client, socket)
}

/// Drives a socket until the client closes.
fn drive(mut socket: Socket<Pipe>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while let Ok(Some(_)) = socket.recv().await {} })
}

fn price(key: &str, n: usize) -> Message {
    format!("{key} {n} {}", "-".repeat(1000)).into()
}

async fn receive(ws: &mut WebSocket<Pipe>) -> (String, usize) {
    let message = ws.recv().await.unwrap().expect("the connection is open");
    let mut words = message.as_text().unwrap().split(' ');
    (words.next().unwrap().to_owned(), words.next().unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_gets_the_newest_value_of_each_key() {
    let hub = Hub::default();
    let (mut slow, socket) = connect(&hub, 4096);
    let client = socket.client();
    let driven = drive(socket);
    let mut replaced = 0;
    for n in 0..1000 {
        for key in ["a", "b", "c"] {
            let delivery = hub.publish_latest("prices", key, price(key, n));
            assert_eq!((delivery.accepted, delivery.dropped), (1, 0), "{key} {n}");
            replaced += delivery.replaced as u64;
        }
        tokio::task::yield_now().await;
    }
    let queued = client.sender().queued();
    assert!(queued <= 16 * 1024 + 1100, "{queued}: little is queued that could be outdated");
    assert!(queued > 14 * 1024, "{queued}: the connection is kept busy");
    let mut last = std::collections::BTreeMap::new();
    let mut received = 0_u64;
    while last.values().filter(|n| **n == 999).count() < 3 {
        let (key, n) = tokio::time::timeout(Duration::from_secs(60), receive(&mut slow)).await.unwrap();
        assert!(last.insert(key, n).is_none_or(|before| before < n), "the values of a key stay in order");
        received += 1;
    }
    assert!(received < 40, "{received} values, of 3000");
    assert_eq!(received + replaced, 3000, "each value was received, or replaced by a newer one");
    assert_eq!((client.stats().replaced, hub.stats().replaced), (replaced, replaced));

    // Once it has caught up, values are sent at once.
    let delivery = hub.broadcast_latest("a", price("a", 1000));
    assert_eq!((delivery.accepted, delivery.replaced), (1, 0));
    assert_eq!(receive(&mut slow).await, ("a".to_owned(), 1000));
    drop(slow);
    driven.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_single_value_that_waits_is_sent() {
    let hub = Hub::default();
    let (mut slow, socket) = connect(&hub, 1024);
    let client = socket.client();
    let driven = drive(socket);
    hub.broadcast(vec![0; 20_000]);
    let queued = client.sender().queued();
    assert_eq!(hub.publish_latest("prices", "a", price("a", 1)).accepted, 1);
    tokio::task::yield_now().await;
    assert_eq!(client.sender().queued(), queued, "it waits outside of the queue");
    assert_eq!(slow.recv().await.unwrap(), Some(vec![0; 20_000].into()));
    let value = tokio::time::timeout(Duration::from_secs(60), receive(&mut slow)).await;
    assert_eq!(value, Ok(("a".to_owned(), 1)));
    drop(slow);
    driven.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_up_gets_every_value() {
    let hub = Hub::default();
    let (mut ws, socket) = connect(&hub, 64 * 1024);
    let driven = drive(socket);
    for n in 0..1000 {
        assert_eq!(hub.publish_latest("prices", "a", price("a", n)).replaced, 0);
        assert_eq!(receive(&mut ws).await, ("a".to_owned(), n));
    }
    assert_eq!(hub.publish_latest("empty", "a", "nobody").accepted, 0);
    drop(ws);
    driven.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_beyond_the_queue_meet_the_policy() {
    for policy in [SlowPolicy::DropNewest, SlowPolicy::DropOldest, SlowPolicy::Close] {
        let hub = Hub::new(HubConfig::default().with_slow(policy).with_queue(20_000));
        let (mut slow, socket) = connect(&hub, 1024);
        let client = socket.client();
        let driven = drive(socket);
        let mut dropped = 0;
        for n in 0..60 {
            dropped += hub.publish_latest("prices", n.to_string(), price(&n.to_string(), n)).dropped;
        }
        assert!(dropped > 10, "{policy:?}: {dropped}");
        assert_eq!((client.dropped(), hub.stats().dropped), (dropped as u64, dropped as u64), "{policy:?}");
        let mut received = Vec::new();
        while received.len() + dropped < 60 && policy != SlowPolicy::Close {
            received.push(receive(&mut slow).await.1);
        }
        match policy {
            SlowPolicy::DropNewest => assert_eq!(received, (0..60 - dropped).collect::<Vec<_>>()),
            SlowPolicy::DropOldest => assert_eq!(*received.last().unwrap(), 59, "the newest came"),
            _ => {
                while let Ok(Some(_)) = slow.recv().await {}
                assert_eq!(slow.close_received().map(|frame| u16::from(frame.code)), Some(1013));
            }
        }
        drop(slow);
        driven.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_on_two_threads_lose_no_last_value() {
    for round in 0..20 {
        let hub = Hub::default();
        let (mut ws, socket) = connect(&hub, 2048);
        let driven = drive(socket);
        let publishers: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|key| {
                let hub = hub.clone();
                tokio::spawn(async move {
                    for n in 0..500 {
                        assert_eq!(hub.publish_latest("prices", key, price(key, n)).accepted, 1);
                        if n % 7 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        let mut last = std::collections::BTreeMap::from([("a".to_owned(), 0), ("b".to_owned(), 0)]);
        while last.values().any(|n| *n < 499) {
            let (key, n) = tokio::time::timeout(Duration::from_secs(20), receive(&mut ws))
                .await
                .unwrap_or_else(|_| panic!("round {round}: a last value did not come, {last:?}"));
            let before = last.insert(key, n).unwrap();
            assert!(before <= n, "round {round}: {n} after {before}");
        }
        for publisher in publishers {
            publisher.await.unwrap();
        }
        drop(ws);
        driven.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_its_values_with_it() {
    let hub = Hub::default();
    let (slow, socket) = connect(&hub, 1024);
    let client = socket.client();
    let driven = drive(socket);
    for n in 0..60 {
        hub.publish_latest("prices", n.to_string(), price("x", n));
    }
    tokio::task::yield_now().await;
    drop(slow);
    driven.await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(client.dropped() > 0, "the values that waited are counted");
    assert_eq!(hub.publish_latest("prices", "x", "late").accepted, 0);
}
