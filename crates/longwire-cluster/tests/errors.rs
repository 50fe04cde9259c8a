//! The errors that callers get, in virtual time.

mod support;

use std::time::Duration;

use longwire_cluster::{Cluster, ClusterError, ClusterOptions, History, Memory};
use longwire_connection::Message;
use longwire_hub::{HubError, Room};
use support::history::join;
use support::{Client, TestNode};
use tokio::time::{Instant, sleep};

fn options() -> ClusterOptions {
    ClusterOptions::default().with_history(History::default())
}

async fn refused(cluster: &Cluster, client: &Client, room: &str) -> ClusterError {
    let joined = cluster.join_since(&client.handle(), room, None, |_| None).await;
    joined.expect_err("it cannot join")
}

#[tokio::test(start_paused = true)]
async fn without_a_history_there_is_nothing_to_join_from() {
    let node = TestNode::new(Memory::new(), ClusterOptions::default()).await;
    let client = node.client();
    assert!(matches!(refused(&node.cluster, &client, "tea").await, ClusterError::NoHistory));
    assert!(node.hub.room("tea").is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_join_is_told_why() {
    let node = TestNode::new(Memory::new(), options()).await;
    let client = node.client();
    let long = "x".repeat(Room::MAX_NAME + 1);
    let error = refused(&node.cluster, &client, &long).await;
    assert!(matches!(error, ClusterError::Hub(HubError::RoomName { len }) if len == long.len()), "{error}");

    client.join("tea");
    assert!(matches!(refused(&node.cluster, &client, "tea").await, ClusterError::InRoom));

    let gone = node.client();
    let handle = gone.handle();
    drop(gone);
    let error = node.cluster.join_since(&handle, "coffee", None, |_| None).await.expect_err("it is gone");
    assert!(matches!(error, ClusterError::Hub(_)), "{error}");

    node.cluster.leave().await;
    assert!(matches!(refused(&node.cluster, &node.client(), "coffee").await, ClusterError::Left));
}

#[tokio::test(start_paused = true)]
async fn a_new_room_is_not_joined_while_the_broker_is_away() {
    let broker = Memory::new();
    let node = TestNode::new(broker.clone(), options()).await;
    broker.cut(node.cluster.id());
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let error = refused(&node.cluster, &node.client(), "tea").await;
    assert!(matches!(error, ClusterError::Broker(_)), "{error}");
    assert!((5..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    broker.heal(node.cluster.id());
    sleep(Duration::from_secs(5)).await;
    join(&node, "tea", None).await;
}

#[tokio::test(start_paused = true)]
async fn who_reads_too_slowly_to_join_is_told_so() {
    let options = ClusterOptions::default().with_history(History::default().with_messages(5000));
    let node = TestNode::new(Memory::new(), options).await;
    let (_first, joined) = join(&node, "tea", None).await;
    let message = Message::text("x".repeat(1024));
    let publish = async |count| {
        for _ in 0..count {
            node.hub.publish("tea", message.clone());
            sleep(Duration::from_millis(1)).await;
        }
    };
    // More than the pipe between the client and its node takes.
    publish(900).await;
    let mut client = node.client();
    let (cluster, handle) = (node.cluster.clone(), client.handle());
    let joining =
        tokio::spawn(async move { cluster.join_since(&handle, "tea", joined.position, |_| None).await });
    sleep(Duration::from_secs(1)).await;
    assert!(!joining.is_finished(), "it waits for the client");
    // More than is kept for it meanwhile.
    publish(1100).await;
    let reading = tokio::spawn(async move {
        loop {
            client.text().await;
        }
    });
    let error = joining.await.expect("it does not panic").expect_err("too much was published");
    assert!(matches!(error, ClusterError::Slow), "{error}");
    reading.abort();
}
