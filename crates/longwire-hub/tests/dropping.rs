//! `SlowPolicy::DropOldest`: older broadcasts are dropped only if the new one then fits, and each of them is counted.

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair_over};
use longwire_connection::{Config, Message, MessageKind, WebSocket};
use longwire_hub::{ClientHandle, ClientInfo, Delivery, Hub, HubConfig, SlowPolicy, Socket};
use tokio::time::timeout;

const QUEUE: usize = 256 * 1024;

/// Adds a client over a connection that holds 1 KiB until its peer reads.
fn join(hub: &Hub) -> (ClientHandle, Socket<Pipe>, WebSocket<Pipe>) {
    let (client, server) = duplex(1024);
    let config = Config::default().with_send_queue(1 << 20);
    let (client, server) = pair_over(client, server, &config);
    let socket = hub.admit(server, ClientInfo::default()).expect("there is a place");
    (socket.client(), socket, client)
}

fn hub() -> Hub {
    Hub::new(HubConfig::default().with_slow(SlowPolicy::DropOldest).with_queue(QUEUE))
}

/// Returns the number of dropped messages, by each of the three counts.
fn counts(hub: &Hub, client: &ClientHandle, delivery: Delivery) -> [u64; 3] {
    [delivery.dropped as u64, client.dropped(), hub.stats().dropped]
}

/// Returns the first byte and the length of each message that arrives while the socket's end is driven.
async fn arriving(socket: &mut Socket<Pipe>, peer: &mut WebSocket<Pipe>) -> Vec<(u8, usize)> {
    let mut messages = Vec::new();
    let receiving = async {
        while let Ok(Ok(Some(message))) = timeout(Duration::from_secs(1), peer.recv()).await {
            messages.push((message.as_bytes()[0], message.len()));
        }
    };
    tokio::select! {
        () = receiving => {}
        end = socket.recv() => panic!("{end:?}"),
    }
    messages
}

#[tokio::test(start_paused = true)]
async fn nothing_is_dropped_for_a_broadcast_that_does_not_fit_all_the_same() {
    // A message sent only to this client is not dropped, and neither is a broadcast that is partly written.
    for (case, own) in [("an own message", true), ("a broadcast begun", false)] {
        let hub = hub();
        let (client, mut socket, mut peer) = join(&hub);
        let first = Message::from(vec![1; 250 * 1024]);
        if own {
            client.sender().try_send(first).unwrap();
        } else {
            assert_eq!(hub.broadcast(first).accepted, 1);
        }
        for n in 0..10 {
            assert_eq!(hub.broadcast(vec![10 + n; 500]).accepted, 1, "{case}");
        }
        let queued = client.sender().queued();
        let delivery = hub.broadcast(vec![9; 100 * 1024]);
        assert_eq!(client.sender().queued(), queued, "{case}: nothing was taken out");
        assert_eq!((delivery.accepted, counts(&hub, &client, delivery)), (0, [1; 3]), "{case}");
        let expected: Vec<_> = [(1, 250 * 1024)].into_iter().chain((10..20).map(|n| (n, 500))).collect();
        assert_eq!(arriving(&mut socket, &mut peer).await, expected, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_are_dropped_as_the_new_one_needs_and_all_are_counted() {
    let hub = hub();
    let (client, mut socket, mut peer) = join(&hub);
    client.sender().try_send(vec![1; 100 * 1024]).unwrap();
    for n in 0..10 {
        assert_eq!(hub.broadcast(vec![10 + n; 10 * 1024]).accepted, 1);
    }
    // 57 KiB are free, less the overhead of the queued messages: five messages of 10 KiB must be dropped.
    let delivery = hub.broadcast(vec![9; 100 * 1024]);
    assert_eq!((delivery.accepted, counts(&hub, &client, delivery)), (1, [5; 3]));
    let kept = (15..20).map(|n| (n, 10 * 1024));
    let expected: Vec<_> = [(1, 100 * 1024)].into_iter().chain(kept).chain([(9, 100 * 1024)]).collect();
    assert_eq!(arriving(&mut socket, &mut peer).await, expected);
    assert_eq!(client.stats().connection.bytes_queued, 0);
}

#[tokio::test(start_paused = true)]
async fn broadcasts_that_wait_for_a_message_in_parts_are_dropped_as_well() {
    let hub = hub();
    let (client, mut socket, mut peer) = join(&hub);
    let mut writer = client.sender().message_writer(MessageKind::Binary).await.unwrap();
    for n in 0..10 {
        assert_eq!(hub.broadcast(vec![10 + n; 20 * 1024]).accepted, 1);
    }
    // 200 of 256 KiB are in use.
    let delivery = hub.broadcast(vec![9; 100 * 1024]);
    assert_eq!((delivery.accepted, counts(&hub, &client, delivery)), (1, [3; 3]));
    let writing = tokio::spawn(async move {
        writer.write(vec![1; 2048]).await.unwrap();
        writer.finish().await.unwrap();
    });
    tokio::task::yield_now().await;
    // 256 KiB fit into an empty queue, but never alongside half of a part.
    let delivery = hub.broadcast(vec![8; 256 * 1024]);
    assert_eq!((delivery.accepted, counts(&hub, &client, delivery)), (0, [1, 4, 4]), "nothing else is lost");
    let kept = (13..20).map(|n| (n, 20 * 1024));
    let expected: Vec<_> = [(1, 2048)].into_iter().chain(kept).chain([(9, 100 * 1024)]).collect();
    assert_eq!(arriving(&mut socket, &mut peer).await, expected);
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_room_counts_for_each_member_by_itself() {
    let hub = hub();
    let (slow, _slow_socket, _slow_peer) = join(&hub);
    let (other, _other_socket, _other_peer) = join(&hub);
    for client in [&slow, &other] {
        client.join("room").unwrap();
    }
    slow.sender().try_send(vec![1; 200 * 1024]).unwrap();
    for _ in 0..3 {
        assert_eq!(hub.publish("room", vec![2; 15 * 1024]).accepted, 2);
    }
    let delivery = hub.publish("room", vec![3; 45 * 1024]);
    assert_eq!((delivery.accepted, delivery.dropped), (2, 3));
    assert_eq!((slow.dropped(), other.dropped(), hub.stats().dropped), (3, 0, 3));
    assert_eq!((hub.stats().delivered, hub.stats().closed_slow), (8, 0));
}
