//! Messages while connections come and go: order, limits, deliveries and withdrawals. In memory and in virtual time.

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use longwire_client::reconnect::{self, Confirm, Outage, Reconnecting};
use longwire_connection::testing::{Faults, Operation, duplex};
use longwire_connection::{Config, Error, Handover, Incoming, Message, Sender, WebSocket};
use support::attempts::{SECOND, Server, TICK, client, steady, text, texts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// Receives as long as the test runs: pongs are noticed only while a task receives.
fn receive(mut ws: Reconnecting) {
    tokio::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
}

#[tokio::test(start_paused = true)]
async fn keeps_messages_for_the_next_connection_in_order_and_no_more_than_fit() {
    for (case, messages, bytes) in [("by count", 4, 1 << 20), ("by bytes", 1024, 11), ("by both", 4, 11)] {
        let (builder, mut server) = client();
        let ws = builder.max_queued(messages).max_queued_bytes(bytes).start();
        let sender = ws.sender();
        for n in 0..4 {
            sender.try_send(format!("{n}{n}")).unwrap();
        }
        assert_eq!(sender.queued(), (4, 8));
        assert!(matches!(sender.try_send("4444"), Err(Error::QueueFull)), "{case}");
        assert!(timeout(SECOND, sender.feed("4444")).await.is_err(), "{case}: there is no room");
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.feed("4444").await }
        });
        server.refuse().await;
        let mut peer = server.accept().await;
        for n in ["00", "11", "22", "33", "4444"] {
            assert_eq!(peer.recv().await.unwrap(), Some(Message::text(n)), "{case}");
        }
        waiting.await.unwrap().unwrap();
        sender.send("5").await.unwrap();
        assert_eq!(peer.recv().await.unwrap(), Some(Message::text("5")), "{case}");
        assert_eq!(sender.queued(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn takes_a_message_above_the_bound_when_nothing_else_waits() {
    let (builder, mut server) = client();
    let ws = builder.max_queued_bytes(10).start();
    ws.try_send("x".repeat(100)).unwrap();
    assert!(matches!(ws.try_send("y"), Err(Error::QueueFull)));
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("x".repeat(100))));
    ws.flush().await.unwrap();
    ws.try_send("y").unwrap();
    assert!(matches!(ws.try_send("x".repeat(100)), Err(Error::QueueFull)));
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("y")));
}

/// Whichever operation of the transport fails, every message reported as delivered has reached the server, and none
/// is missing in between.
#[tokio::test(start_paused = true)]
async fn delivers_every_message_that_it_says_it_did() {
    for confirm in [Confirm::Written, Confirm::Pong] {
        for operation in 0..60 {
            let (builder, mut server) = client();
            let ws = builder.backoff(steady()).confirm(confirm).start();
            let sender = ws.sender();
            receive(ws);
            let seen: Arc<Mutex<Vec<String>>> = Arc::default();
            let logged = Arc::clone(&seen);
            let serving = tokio::spawn(async move {
                let mut faults = Faults::new().fail_at(Operation::Any(operation), ErrorKind::ConnectionReset);
                loop {
                    // The pipe is smaller than a message, so each is sent in parts.
                    let mut peer = server.accept_over(64, faults).await;
                    while let Ok(Some(message)) = peer.recv().await {
                        logged.lock().unwrap().push(text(&message)[..1].to_owned());
                    }
                    faults = Faults::new();
                }
            });
            let sending = async {
                for n in 0..6 {
                    sender.send(format!("{n}{}", "x".repeat(100))).await.unwrap();
                    if confirm == Confirm::Pong {
                        let last = seen.lock().unwrap().last().cloned();
                        assert_eq!(last, Some(n.to_string()), "operation {operation}: it is there already");
                    }
                }
            };
            timeout(600 * SECOND, sending).await.expect("all are sent in time");
            // Written data is still in transit.
            sleep(SECOND).await;
            let seen = seen.lock().unwrap().clone();
            let mut once = seen.clone();
            once.dedup();
            assert_eq!(once, ["0", "1", "2", "3", "4", "5"], "{confirm:?}, operation {operation}: {seen:?}");
            serving.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_say_delivered_before_it_is() {
    for confirm in [Confirm::Written, Confirm::Pong] {
        let (builder, mut server) = client();
        let ws = builder.confirm(confirm).start();
        let sender = ws.sender();
        receive(ws);
        // First there is no connection, then one that accepts part of the message, then one that accepts all of it
        // but whose peer does not read.
        let mut sending = tokio::spawn(async move { sender.send("x".repeat(1000)).await });
        assert!(timeout(60 * SECOND, &mut sending).await.is_err(), "{confirm:?}");
        let peer = server.accept_over(100, Faults::new()).await;
        assert!(timeout(60 * SECOND, &mut sending).await.is_err(), "{confirm:?}");
        peer.abort();
        let mut peer = server.accept().await;
        let said = timeout(60 * SECOND, &mut sending).await.is_ok();
        assert_eq!(said, confirm == Confirm::Written, "{confirm:?}");
        if !said {
            // The message is confirmed only when the peer continues to read after it.
            assert_eq!(peer.recv().await.unwrap(), Some(Message::text("x".repeat(1000))));
            assert!(timeout(60 * SECOND, &mut sending).await.is_err(), "{confirm:?}");
            assert!(timeout(SECOND, peer.recv()).await.is_err());
            sending.await.unwrap().unwrap();
        }
    }
}

/// With [`Confirm::Pong`], the task would wait for a pong that arrives after more messages than are buffered.
#[tokio::test(start_paused = true)]
async fn one_task_may_receive_and_send_in_turn_unless_told_otherwise() {
    const MESSAGES: usize = 600;
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let replying = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            let message = ws.recv().await.unwrap().unwrap();
            ws.send(message).await.unwrap();
        }
    });
    let mut peer = server.accept().await;
    for n in 0..MESSAGES {
        peer.feed(n.to_string()).await.unwrap();
    }
    peer.flush().await.unwrap();
    for n in 0..MESSAGES {
        let reply = timeout(60 * SECOND, peer.recv()).await.expect("it goes on");
        assert_eq!(reply.unwrap(), Some(Message::text(n.to_string())));
    }
    replying.await.unwrap();
}

/// The two kinds of confirmation differ if the peer dies before it has read a message that was written.
#[tokio::test(start_paused = true)]
async fn sends_again_what_was_written_and_not_confirmed() {
    for (confirm, again) in [(Confirm::Written, false), (Confirm::Pong, true)] {
        let (builder, mut server) = client();
        let ws = builder.confirm(confirm).start();
        let sender = ws.sender();
        receive(ws);
        let sending = tokio::spawn(async move { sender.send("unread").await });
        let peer = server.accept().await;
        sleep(SECOND).await;
        peer.abort();
        let mut peer = server.accept().await;
        let arrived = timeout(SECOND, peer.recv()).await.is_ok();
        assert_eq!(arrived, again, "{confirm:?}");
        let _ = timeout(SECOND, peer.recv()).await;
        sending.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_a_connection_that_does_not_deliver_in_time() {
    for (confirm, capacity) in [(Confirm::Written, 100), (Confirm::Pong, 64 * 1024)] {
        let (builder, mut server) = client();
        let ws = builder
            .backoff(steady())
            .confirm(confirm)
            .delivery_timeout(7 * SECOND)
            .retry_if(
                |failure| matches!(failure.outage, Outage::Undelivered { limit } if *limit == 7 * SECOND),
            )
            .start();
        let sender = ws.sender();
        receive(ws);
        // The limit does not apply to an idle connection.
        let idle = server.accept_over(capacity, Faults::new()).await;
        sleep(60 * SECOND).await;
        let start = Instant::now();
        let sending = tokio::spawn(async move { sender.send("x".repeat(1000)).await });
        let mut peer = server.accept().await;
        let passed = start.elapsed();
        assert!((8 * SECOND..8 * SECOND + 2 * TICK).contains(&passed), "{confirm:?}: {passed:?}");
        assert_eq!(peer.recv().await.unwrap(), Some(Message::text("x".repeat(1000))));
        let _ = timeout(SECOND, peer.recv()).await;
        sending.await.unwrap().unwrap();
        drop(idle);
    }
}

#[tokio::test(start_paused = true)]
async fn withdraws_a_message_that_nobody_waits_for() {
    let (builder, mut server) = client();
    let ws = builder.confirm(Confirm::Pong).max_queued(2).backoff(steady()).start();
    let sender = ws.sender();
    receive(ws);
    assert!(timeout(SECOND, sender.send("withdrawn at once")).await.is_err());
    assert_eq!(sender.queued(), (0, 0), "its room is given back");
    sender.feed("kept").await.unwrap();
    assert!(timeout(SECOND, sender.send("withdrawn behind another")).await.is_err());
    let late = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send("withdrawn when it was under way").await }
    });
    // Both messages are handed over, but not confirmed.
    let peer = server.accept().await;
    sleep(SECOND).await;
    late.abort();
    peer.abort();
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("kept")));
    assert!(timeout(SECOND, peer.recv()).await.is_err(), "the other is not sent again");
    sender.flush().await.unwrap();
}

/// Drops `send` after each number of polls: the message is sent once or not at all, and its neighbors are unaffected.
#[tokio::test(start_paused = true)]
async fn sending_can_be_given_up_at_any_time() {
    for confirm in [Confirm::Written, Confirm::Pong] {
        let (mut sent, mut not_sent) = (0, 0);
        for polls in 0..12 {
            let (builder, mut server) = client();
            let ws = builder.confirm(confirm).max_queued(2).start();
            let sender = ws.sender();
            sender.feed("before").await.unwrap();
            let serving = tokio::spawn(async move {
                sleep(5 * TICK).await;
                // The small pipe splits every message.
                texts(&mut server.accept_over(5, Faults::new()).await).await
            });
            {
                let mut sending = pin!(sender.send("given up"));
                for _ in 0..polls {
                    let done = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_ready())).await;
                    sleep(TICK).await;
                    if done {
                        break;
                    }
                }
            }
            sender.send("behind").await.unwrap();
            drop(ws);
            let texts = serving.await.unwrap();
            if texts == ["before", "behind"] {
                not_sent += 1;
            } else {
                assert_eq!(texts, ["before", "given up", "behind"], "{confirm:?}, {polls} polls");
                sent += 1;
            }
        }
        assert!(sent > 2 && not_sent > 2, "{confirm:?}: both were seen, {sent} and {not_sent} times");
    }
}

/// Pings overlap: a message does not wait for the pong of the previous one.
#[tokio::test(start_paused = true)]
async fn confirms_many_messages_with_few_pings() {
    const LATENCY: Duration = Duration::from_millis(100);
    let (builder, mut server) = client();
    let ws = builder.confirm(Confirm::Pong).start();
    let sender = ws.sender();
    receive(ws);
    let mut peer = server.accept_over(1 << 20, Faults::new().latency(LATENCY)).await;
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    tokio::spawn(async move {
        while let Ok(Some(event)) = peer.next_event().await {
            counted.fetch_add(usize::from(matches!(event, Incoming::Ping(_))), Ordering::Relaxed);
        }
    });
    let start = Instant::now();
    let mut sending = Vec::new();
    for n in 0..500 {
        let sender = sender.clone();
        sending.push(tokio::spawn(async move { sender.send(format!("{n}")).await }));
        if n % 10 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    for sending in sending {
        sending.await.unwrap().unwrap();
    }
    // The last message is sent after 50 ms. At worst, it waits for a free ping and then for its own pong.
    let pings = pings.load(Ordering::Relaxed);
    assert!(start.elapsed() <= 5 * LATENCY, "{:?}, {pings} pings", start.elapsed());
    assert!((2..=20).contains(&pings), "{pings}");
}

/// Other pings on the connection can displace a ping, also while it is not written: it is then sent again.
#[tokio::test(start_paused = true)]
async fn asks_again_where_a_ping_was_forgotten() {
    for capacity in [64 * 1024, 10] {
        asks_again_over(capacity).await;
    }
}

/// Starts a client whose messages pongs confirm. The application, too, has a sender for its connection, and may ping.
fn with_other_pings() -> (reconnect::Sender, Server, Arc<Mutex<Option<Sender>>>) {
    let (builder, server) = client();
    let others = Arc::new(Mutex::new(None));
    let shown = Arc::clone(&others);
    let ws = builder
        .confirm(Confirm::Pong)
        .on_connect(move |ws| {
            *shown.lock().unwrap() = Some(ws.sender());
            async move { Ok(ws) }
        })
        .start();
    let sender = ws.sender();
    receive(ws);
    (sender, server, others)
}

async fn asks_again_over(capacity: usize) {
    let (sender, mut server, others) = with_other_pings();
    let sending = tokio::spawn(async move { sender.send("once").await });
    let mut peer = server.accept_over(capacity, Faults::new()).await;
    sleep(SECOND).await;
    let other = others.lock().unwrap().take().unwrap();
    for _ in 0..20 {
        drop(other.ping().unwrap());
    }
    sleep(SECOND).await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("once")));
    assert!(timeout(SECOND, peer.recv()).await.is_err(), "once");
    timeout(SECOND, sending).await.expect("it is asked again").unwrap().unwrap();
}

/// Unsolicited pongs confirm nothing.
#[tokio::test(start_paused = true)]
async fn is_not_confirmed_by_any_pong() {
    let (builder, mut server) = client();
    let ws = builder.confirm(Confirm::Pong).start();
    let sender = ws.sender();
    receive(ws);
    let mut peer = server.accept_raw().await;
    let mut sending = tokio::spawn(async move { sender.send("?").await });
    for pong in [&b"\x8a\x00"[..], b"\x8a\x04what", b"\x8a\x08\0\0\0\0\0\0\0\x09"] {
        peer.write_all(pong).await.unwrap();
        assert!(timeout(SECOND, &mut sending).await.is_err());
    }
    let mut sent = [0; 64];
    assert!(peer.read(&mut sent).await.unwrap() > 2 + 4 + 1 + 2 + 4, "the message and a ping");
    drop(peer);
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("?")));
    let _ = timeout(SECOND, peer.recv()).await;
    sending.await.unwrap().unwrap();
}

/// A pong confirms the messages before its ping at once, although a later message is still being written: a slow line
/// that is never idle would otherwise exceed the time limit with every message.
#[tokio::test(start_paused = true)]
async fn confirms_a_message_while_the_next_is_written() {
    const LEN: usize = 800_000;
    let (builder, mut server) = client();
    let ws = builder.backoff(steady()).confirm(Confirm::Pong).delivery_timeout(10 * SECOND);
    let ws = ws.max_queued_bytes(100 * LEN).start();
    let sender = ws.sender();
    receive(ws);
    for _ in 0..6 {
        sender.feed("x".repeat(LEN)).await.unwrap();
    }
    // The line takes 8 s for a message.
    let (mut from, mut to) = tokio::io::split(server.accept_raw().await);
    let (line, io) = duplex(64 * 1024);
    let mut peer = WebSocket::new(io, Handover::server(), &Config::default());
    let (mut back, mut forth) = tokio::io::split(line);
    tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
    tokio::spawn(async move {
        let mut piece = vec![0; 10_000];
        while let Ok(len @ 1..) = from.read(&mut piece).await {
            sleep(SECOND / 10).await;
            if forth.write_all(&piece[..len]).await.is_err() {
                break;
            }
        }
    });
    let receiving = tokio::spawn(async move { texts(&mut peer).await.len() });
    let flushed = timeout(120 * SECOND, sender.flush()).await;
    assert!(matches!(flushed, Ok(Ok(()))), "{flushed:?}, {:?}", sender.queued());
    assert!(timeout(SECOND, server.attempt()).await.is_err(), "the first connection is never dropped");
    drop(receiving);
}

/// However many pings are unanswered, a message is written at once.
#[tokio::test(start_paused = true)]
async fn writes_messages_while_pongs_are_awaited() {
    const LATENCY: Duration = Duration::from_millis(100);
    let (builder, mut server) = client();
    let ws = builder.confirm(Confirm::Pong).start();
    let sender = ws.sender();
    receive(ws);
    let mut peer = server.accept_over(1 << 20, Faults::new().latency(LATENCY)).await;
    let start = Instant::now();
    let receiving = tokio::spawn(async move {
        let mut late = Vec::new();
        for n in 0..50 {
            assert_eq!(peer.recv().await.unwrap(), Some(Message::text(n.to_string())));
            late.push(start.elapsed().saturating_sub(Duration::from_millis(n)));
        }
        // Answers the last pings.
        let _ = timeout(SECOND, peer.recv()).await;
        late
    });
    for n in 0..50 {
        sender.feed(n.to_string()).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    sender.flush().await.unwrap();
    let late = receiving.await.unwrap();
    assert!(late.iter().all(|late| *late <= LATENCY + 5 * TICK), "{late:?}");
}

/// The application's own pings may leave no room for the client's, as long as the peer does not read.
#[tokio::test(start_paused = true)]
async fn sends_on_after_its_pings_had_no_room() {
    let (sender, mut server, others) = with_other_pings();
    let mut peer = server.accept_over(100, Faults::new()).await;
    sleep(SECOND).await;
    let other = others.lock().unwrap().take().unwrap();
    for len in [100, 1] {
        let refused = (0..1000).find_map(|_| other.ping_with(vec![7; len]).err());
        assert!(matches!(refused, Some(Error::QueueFull)), "{refused:?}");
    }
    sender.feed("first").await.unwrap();
    sleep(SECOND).await;
    let receiving = tokio::spawn(async move { texts(&mut peer).await });
    for text in ["second", "third"] {
        timeout(60 * SECOND, sender.send(text)).await.expect(text).unwrap();
    }
    receiving.abort();
}
