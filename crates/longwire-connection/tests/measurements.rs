//! Measurements of connections: every way to send and to receive counts, once.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Faults, Pipe, duplex};
use longwire_connection::{
    Config, HistogramCounts, Keepalive, Measurements, MessageKind, PreparedMessage, WebSocket, drive,
};
use support::{End, run, socket};
use tokio::time::sleep;

fn measured(measurements: &Measurements) -> Config {
    let measurements = Some(measurements.clone());
    let interval = Duration::from_secs(30);
    Config::default()
        .with_measurements(measurements)
        .with_keepalive(Keepalive::default().with_interval(interval))
}

fn buckets(counts: &HistogramCounts) -> Vec<(u64, u64)> {
    counts.buckets().collect()
}

/// Receives until the end. Returns the number of messages.
async fn take_all(mut ws: WebSocket<Pipe>) -> usize {
    let mut count = 0;
    while let Ok(Some(_)) = ws.recv().await {
        count += 1;
    }
    count
}

/// The same, but the messages are lent.
async fn borrow_all(mut ws: WebSocket<Pipe>) -> usize {
    let mut count = 0;
    while let Ok(Some(())) = ws.recv_with(|_| ()).await {
        count += 1;
    }
    count
}

#[test]
fn messages_count_however_they_are_sent_and_received() {
    count_messages(take_all);
    count_messages(borrow_all);
}

fn count_messages(take_all: impl AsyncFnOnce(WebSocket<Pipe>) -> usize) {
    run("messages", async {
        let (sent, received) = (Measurements::default(), Measurements::default());
        let (here, there) = duplex(1024);
        let server = socket(End::Server, here, &measured(&sent));
        let client = socket(End::Client, there, &measured(&received));
        let sending = tokio::spawn(drive(server, |mut ws| async move {
            ws.send("").await?;
            ws.send("1").await?;
            ws.feed("22").await?;
            ws.flush().await?;
            ws.sender().try_send("333")?;
            ws.sender().send("4444").await?;
            ws.sender().try_send_prepared(&PreparedMessage::new("55555"), 1 << 20)?;
            ws.send(vec![0; 100_000]).await?;
            let mut parts = ws.message_writer(MessageKind::Text).await?;
            parts.write("in parts, which are not measured").await?;
            parts.finish().await?;
            ws.close(1000, "").await
        }));
        assert_eq!(take_all(client).await, 8);
        sending.await.unwrap().unwrap();
        let expected = [(0, 1), (1, 1), (3, 2), (7, 2), ((1 << 17) - 1, 1)];
        assert_eq!(buckets(&sent.counts().sent), expected);
        let with_parts = [(0, 1), (1, 1), (3, 2), (7, 2), (63, 1), ((1 << 17) - 1, 1)];
        assert_eq!(buckets(&received.counts().received), with_parts, "taken whole, a message counts");
        for other in [sent.counts().received, received.counts().sent, sent.counts().round_trips] {
            assert_eq!(other.count(), 0);
        }
    });
}

#[test]
fn the_answer_to_a_keepalive_ping_tells_how_far_the_peer_is() {
    run("keepalive", async {
        let measurements = Measurements::default();
        let (here, there) = duplex(1024);
        let latency = Duration::from_millis(300);
        let far = there.with_faults(Faults::new().latency(latency));
        let ws = socket(End::Server, here, &measured(&measurements));
        let mut client = socket(End::Client, far, &Config::default());
        let answering = tokio::spawn(async move { client.recv().await });
        let receiving = tokio::spawn(take_all(ws));
        sleep(Duration::from_secs(40)).await;
        let round_trips = measurements.counts().round_trips;
        let (longest, count) = round_trips.buckets().next().expect("one ping was answered");
        assert_eq!(count, 1);
        assert!((300_000..1_200_000).contains(&longest), "{longest} µs");
        answering.abort();
        receiving.abort();
    });
}

#[test]
fn two_are_equal_where_they_are_one() {
    let (one, other) = (Measurements::default(), Measurements::default());
    assert_eq!(one, one.clone());
    assert_ne!(one, other);
}
