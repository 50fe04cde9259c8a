//! A sender as a sink, values as JSON, and sends that wait until they are written.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt, stream};
use longwire_connection::testing::{Pipe, duplex, pair};
use longwire_connection::{Config, Error, Handover, Message, WebSocket};
use tokio::io::AsyncReadExt;

/// A socket over a pipe that holds 64 bytes, and the pipe's other end.
fn narrow(config: &Config) -> (WebSocket<Pipe>, Pipe) {
    let (pipe, peer) = duplex(64);
    (WebSocket::new(pipe, Handover::server(), config), peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_of_several_tasks_keep_their_order() {
    const COUNT: usize = 500;
    let (client, mut server) = pair(Config::default());
    let (sender, mut receiver) = client.split();
    let tasks: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let mut sink = sender.clone().into_sink();
            tokio::spawn(async move {
                let messages =
                    (0..COUNT).map(|n| Ok(Message::text(format!("{name}{n}{}", "-".repeat(2000)))));
                sink.send_all(&mut stream::iter(messages)).await
            })
        })
        .collect();
    let order = tokio::spawn(async move {
        let mut next = [0; 3];
        while let Some(message) = server.recv().await.unwrap() {
            let text = message.as_text().unwrap().trim_end_matches('-');
            let of = usize::from(text.as_bytes()[0] - b'a');
            assert_eq!(text[1..], next[of].to_string(), "the messages of one sink stay in order");
            next[of] += 1;
        }
        next
    });
    let driven = tokio::spawn(async move { receiver.next().await.transpose() });
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    sender.into_sink().close().await.unwrap();
    assert_eq!(order.await.unwrap(), [COUNT; 3]);
    assert_eq!(driven.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_flush_of_a_sink_waits_until_the_bytes_are_written() {
    let (ws, mut peer) = narrow(&Config::default());
    let mut sink = ws.sender().into_sink();
    sink.feed(Message::binary(vec![0; 200])).await.unwrap();
    let mut flush = pin!(sink.flush());
    assert!(poll_fn(|cx| Poll::Ready(flush.poll_unpin(cx).is_pending())).await, "the pipe takes 64 bytes");
    // A later message of another task does not prolong the flush.
    ws.sender().feed(Message::binary(vec![0; 1000])).await.unwrap();
    let mut bytes = vec![0; 204];
    let (read, flushed) = tokio::join!(peer.read_exact(&mut bytes), flush);
    read.unwrap();
    flushed.unwrap();
    assert!(ws.sender().queued() > 0);
}

#[tokio::test]
async fn a_dropped_sink_leaves_nothing_that_waits() {
    let mut config = Config::default();
    config.send_queue = 1;
    let (ws, mut peer) = narrow(&config);
    ws.sender().feed(Message::binary(vec![0; 200])).await.unwrap();
    let mut sink = ws.sender().into_sink();
    sink.feed("dropped".into()).await.unwrap();
    assert!(sink.flush().now_or_never().is_none(), "the queue is full");
    let other = ws.sender();
    let mut sent = pin!(other.send_flushed("sent"));
    assert!(poll_fn(|cx| Poll::Ready(sent.poll_unpin(cx).is_pending())).await);
    drop(sink);
    let mut bytes = vec![0; 204 + 6];
    let (read, sent) = tokio::join!(peer.read_exact(&mut bytes), sent);
    read.unwrap();
    sent.unwrap();
    assert_eq!(bytes[204..], *b"\x81\x04sent");
}

#[tokio::test]
async fn a_sink_that_is_not_ready_refuses() {
    let (ws, _peer) = narrow(&Config::default());
    let mut sink = ws.sender().into_sink();
    sink.start_send_unpin("one".into()).unwrap();
    assert!(matches!(sink.start_send_unpin("two".into()), Err(Error::QueueFull)));
    sink.flush().await.unwrap();
    assert_eq!(ws.sender().stats().messages_sent, 1);
}

#[tokio::test]
async fn a_flush_that_was_given_up_holds_nothing_back() {
    let (ws, peer) = narrow(&Config::default());
    let mut sink = ws.sender().into_sink();
    sink.feed(Message::binary(vec![0; 200])).await.unwrap();
    assert!(sink.flush().now_or_never().is_none(), "the pipe takes 64 bytes");
    // The queue has room, and the peer need not read.
    assert!(matches!(sink.feed("next".into()).now_or_never(), Some(Ok(()))));
    assert!(sink.flush().now_or_never().is_none());
    assert!(sink.close().now_or_never().is_none());
    assert_eq!(ws.sender().close_sent().map(|frame| u16::from(frame.code)), Some(1000), "it is begun");
    drop(peer);
}

#[tokio::test]
async fn a_message_that_a_close_overtakes_is_an_error() {
    let (ws, _peer) = narrow(&Config::default());
    let mut sink = ws.sender().into_sink();
    sink.feed("lost".into()).await.unwrap();
    ws.sender().start_close(1000, "").unwrap();
    assert!(matches!(sink.close().await, Err(Error::Closed)));
    assert_eq!(ws.sender().stats().messages_sent, 0);
}

#[tokio::test]
async fn a_closed_sink_has_sent_everything_and_a_close_frame() {
    let (mut client, mut server) = pair(Config::default());
    let mut sink = client.sender().into_sink();
    sink.feed("last".into()).await.unwrap();
    sink.close().await.unwrap();
    sink.close().await.unwrap();
    assert!(matches!(sink.feed("late".into()).await, Err(Error::Closed)));
    assert_eq!(server.recv().await.unwrap(), Some("last".into()));
    assert_eq!(server.recv().await.unwrap(), None);
    assert_eq!(u16::from(server.close_received().unwrap().code), 1000);
    assert_eq!(client.recv().await.unwrap(), None);
}

#[tokio::test]
async fn send_flushed_of_a_socket_waits_until_the_message_is_written() {
    let (mut ws, mut peer) = narrow(&Config::default());
    let mut sent = Box::pin(ws.send_flushed(vec![0; 200]));
    assert!(poll_fn(|cx| Poll::Ready(sent.poll_unpin(cx).is_pending())).await);
    let mut bytes = vec![0; 204];
    let (read, done) = tokio::join!(peer.read_exact(&mut bytes), sent);
    read.unwrap();
    done.unwrap();
    assert_eq!(ws.sender().queued(), 0);
}

#[tokio::test(start_paused = true)]
async fn send_flushed_fails_if_the_connection_ends_first() {
    let (mut ws, peer) = narrow(&Config::default());
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(peer);
    };
    let (sent, ()) = tokio::join!(ws.send_flushed(vec![0; 200]), end);
    assert!(sent.is_err_and(|error| error.is_disconnect()));
}

#[cfg(feature = "json")]
#[tokio::test]
async fn values_travel_as_json() {
    let (mut client, mut server) = pair(Config::default());
    client.send_json(&["tea", "cake"]).await.unwrap();
    client.sender().send_json("coffee").await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap().json::<Vec<String>>().unwrap(), ["tea", "cake"]);
    assert_eq!(server.recv().await.unwrap(), Some("\"coffee\"".into()));

    let nameless = std::collections::BTreeMap::from([((1, 2), 3)]);
    let error = client.send_json(&nameless).await.unwrap_err();
    assert!(matches!(error, Error::Json(_)) && !error.is_disconnect() && error.close_code().is_none());
    assert_eq!(client.stats().messages_sent, 2, "nothing was sent, and the connection goes on");
}
