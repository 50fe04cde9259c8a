//! Limits on the peer's rate: the messages that pass, the handling of the others, and the counts.

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair_over};
use longwire_connection::{
    Config, Error, Excess, Incoming, Message, MessageKind, Rate, RateLimit, WebSocket,
};
use tokio::time::{sleep, timeout};

/// A peer without a limit, and a server with one: two messages at once and one per second.
fn limited(excess: Excess) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    limited_to(
        RateLimit::default().with_messages(Rate::per_second(1).burst(2)).with_bytes(None).with_excess(excess),
    )
}

fn limited_to(rate_limit: RateLimit) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    let (client, server) = duplex(64 * 1024);
    let (peer, _) = pair_over(client, duplex(1).0, &Config::default());
    let config = Config::default().with_rate_limit(rate_limit);
    let (_, limited) = pair_over(duplex(1).0, server, &config);
    (peer, limited)
}

/// Receives everything that is there, up to the end or until nothing more arrives.
async fn received(ws: &mut WebSocket<Pipe>) -> (Vec<Message>, Option<Error>) {
    let mut messages = Vec::new();
    loop {
        match timeout(Duration::from_millis(1), ws.recv()).await {
            Ok(Ok(Some(message))) => messages.push(message),
            Ok(Err(error)) => return (messages, Some(error)),
            Ok(Ok(None)) | Err(_) => return (messages, None),
        }
    }
}

async fn send(peer: &mut WebSocket<Pipe>, messages: &[&str]) {
    for message in messages {
        peer.send(*message).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn messages_above_the_limit_are_dropped_and_counted() {
    let (mut peer, mut server) = limited(Excess::Drop);
    send(&mut peer, &["1", "2", "3", "4"]).await;
    let (got, end) = received(&mut server).await;
    assert_eq!((got, end.is_none()), (vec!["1".into(), "2".into()], true));
    sleep(Duration::from_secs(1)).await;
    send(&mut peer, &["5", "6"]).await;
    let (got, end) = received(&mut server).await;
    assert_eq!((got, end.is_none()), (vec!["5".into()], true));
    for stats in [server.stats(), server.sender().stats()] {
        assert_eq!((stats.messages_received, stats.messages_refused), (3, 3));
        assert_eq!(stats.bytes_received, 6 * 7, "six frames of a masked byte");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_closes_the_connection_and_nothing_behind_it_is_looked_at() {
    let (mut peer, mut server) = limited(Excess::Close);
    send(&mut peer, &["1", "2", "3"]).await;
    sleep(Duration::from_secs(60)).await;
    send(&mut peer, &["4"]).await;
    // They arrived in time, but are received now, all at once.
    let (got, end) = received(&mut server).await;
    assert_eq!(got, ["1".into(), "2".into()]);
    let error = end.expect("the connection was closed");
    assert!(matches!(error, Error::RateExceeded), "{error}");
    assert_eq!(error.close_code(), Some(1008.into()));
    assert_eq!(server.recv().await.unwrap(), None, "the error was reported");
    assert_eq!((server.stats().messages_received, server.stats().messages_refused), (2, 1));
    drop(server);
    let error = peer.recv().await.unwrap_err();
    assert!(matches!(&error, Error::ClosedByPeer(frame) if frame.code == 1008.into()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited_by_themselves() {
    let limit = RateLimit::default().with_bytes(Rate::per_second(100)).with_excess(Excess::Drop);
    let (mut peer, mut server) = limited_to(limit);
    for len in [0, 99, 500, 1, 0] {
        peer.send(vec![0; len]).await.unwrap();
    }
    let (got, _) = received(&mut server).await;
    let lens: Vec<_> = got.iter().map(Message::len).collect();
    assert_eq!(lens, [0, 99, 500], "the one that crosses the limit passes");
    sleep(Duration::from_secs(5)).await;
    peer.send("x").await.unwrap();
    assert_eq!(received(&mut server).await.0, ["x".into()], "made up for");
}

#[tokio::test(start_paused = true)]
async fn control_frames_are_not_limited() {
    let (mut peer, mut server) = limited(Excess::Close);
    for _ in 0..10 {
        drop(peer.ping().unwrap());
    }
    send(&mut peer, &["1"]).await;
    for _ in 0..10 {
        assert!(matches!(server.next_event().await.unwrap(), Some(Incoming::Ping(_))));
    }
    assert_eq!(server.next_event().await.unwrap(), Some(Incoming::Message("1".into())));
    assert_eq!(server.stats().messages_refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_in_parts_is_received_whole_or_not_at_all() {
    let (mut peer, mut server) = limited(Excess::Drop);
    for n in 0..3_u8 {
        let mut writer = peer.message_writer(MessageKind::Binary).await.unwrap();
        for _ in 0..3 {
            writer.write(vec![n; 100]).await.unwrap();
        }
        writer.finish().await.unwrap();
    }
    // One is read to its end, one is not, and the third is too much.
    let mut reader = server.recv_parts().await.unwrap().unwrap();
    let mut len = 0;
    while let Some(part) = reader.next().await.unwrap() {
        len += part.len();
    }
    assert_eq!(len, 300);
    let mut reader = server.recv_parts().await.unwrap().unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap()[0], 1);
    drop(reader);
    let third = timeout(Duration::from_millis(1), server.recv_parts()).await;
    assert!(third.is_err(), "{third:?}");
    drop(third);
    sleep(Duration::from_secs(1)).await;
    peer.send("whole").await.unwrap();
    let mut reader = server.recv_parts().await.unwrap().unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "whole");
    drop(reader);
    assert_eq!(server.stats().messages_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_is_dropped_leaves_others_their_turn() {
    let (mut peer, mut server) = limited(Excess::Drop);
    let flood = tokio::spawn(async move { while peer.send("x").await.is_ok() {} });
    let receiving = tokio::spawn(async move {
        while server.recv().await.is_ok_and(|message| message.is_some()) {}
        server
    });
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert!(!flood.is_finished() && !receiving.is_finished());
    flood.abort();
    let server = receiving.await.unwrap();
    assert!(server.stats().messages_refused > 100, "{:?}", server.stats());
}
