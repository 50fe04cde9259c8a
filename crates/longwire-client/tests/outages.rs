//! Unusual failures of a reconnecting connection: hooks that panic, a runtime that shuts down, a transport that fails
//! in one direction, and limits of zero and of the maximum. In memory and in virtual time.

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use longwire_client::Client;
use longwire_client::reconnect::{Backoff, Builder, Confirm, Jitter, Outage, Phase, Reconnecting};
use longwire_connection::testing::{Faults, Operation, Pipe};
use longwire_connection::{CloseCode, Error, Message};
use support::attempts::{SECOND, TICK, client, steady, text, texts};
use support::{SWITCHING, fill, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

/// Polls once.
async fn poll<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

fn receive(mut ws: Reconnecting) {
    tokio::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
}

fn is_closed<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Closed))
}

/// No call waits forever, whether the runtime shuts down before the task first runs or later.
#[test]
fn tells_everybody_when_its_runtime_ends() {
    for started in [false, true] {
        let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second) = (build(), build());
        let (builder, _server) = client();
        let mut ws = {
            let _entered = first.enter();
            builder.start()
        };
        let sender = ws.sender();
        let (sending, flushing, receiving) = {
            let (one, two) = (sender.clone(), sender.clone());
            (
                second.spawn(async move { one.send("never").await }),
                second.spawn(async move {
                    sleep(Duration::from_millis(1)).await;
                    two.flush().await
                }),
                second.spawn(async move {
                    let received = ws.recv().await;
                    (ws, received)
                }),
            )
        };
        second.block_on(async { sleep(Duration::from_millis(20)).await });
        if started {
            first.block_on(async { sleep(Duration::from_millis(1)).await });
        }
        drop(first);
        second.block_on(async {
            let all = async {
                assert!(is_closed(&sending.await.unwrap()), "{started}");
                assert!(is_closed(&flushing.await.unwrap()), "{started}");
                let (mut ws, received) = receiving.await.unwrap();
                assert!(matches!(received, Err(Outage::TaskGone)), "{started}: {received:?}");
                assert!(matches!(*ws.phase().borrow(), Phase::Stopped), "{started}");
                assert!(is_closed(&ws.close(1000, "").await), "{started}");
            };
            timeout(10 * SECOND, all).await.expect("nobody waits for ever");
        });
    }
}

/// A connection is useless if its transport can receive but no longer send, as may happen to a QUIC stream.
#[tokio::test(start_paused = true)]
async fn gives_up_a_connection_on_which_only_sending_fails() {
    for confirm in [Confirm::Written, Confirm::Pong] {
        let (builder, mut server) = client();
        let mut ws = builder.confirm(confirm).backoff(steady()).start();
        let sender = ws.sender();
        let sending = tokio::spawn(async move { sender.send("at last").await });
        let broken = Faults::new().fail_at(Operation::Write(0), ErrorKind::BrokenPipe);
        let mut raw = server.accept_raw_over(broken).await;
        // The server keeps sending.
        let feeding = tokio::spawn(async move {
            for n in 0_u32.. {
                sleep(SECOND).await;
                if raw.write_all(&[&b"\x81\x04"[..], format!("{n:04}").as_bytes()].concat()).await.is_err() {
                    break;
                }
            }
        });
        let receiving = tokio::spawn(async move { while let Ok(Some(_)) = ws.recv().await {} });
        let mut peer = timeout(600 * SECOND, server.accept()).await.expect("it connects again");
        assert_eq!(peer.recv().await.unwrap(), Some(Message::text("at last")), "{confirm:?}");
        let _ = timeout(SECOND, peer.recv()).await;
        sending.await.unwrap().unwrap();
        receiving.abort();
        feeding.abort();
    }
}

/// The same, but the peer's earlier messages have already arrived, and the application receives them slowly.
#[tokio::test(start_paused = true)]
async fn hears_the_last_words_of_a_peer_that_takes_nothing_more() {
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let broken = Faults::new().fail_at(Operation::Write(0), ErrorKind::BrokenPipe);
    let mut raw = server.accept_raw_over(broken).await;
    ws.feed("never read").await.unwrap();
    for _ in 0..1000 {
        raw.write_all(b"\x81\x04text").await.unwrap();
    }
    raw.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    for n in 0..1000 {
        if n % 100 == 0 {
            sleep(60 * SECOND).await;
        }
        let received = timeout(600 * SECOND, ws.recv()).await;
        let received = received.unwrap_or_else(|_| panic!("{n}: {ws:?}")).unwrap();
        assert_eq!(received, Some(Message::text("text")), "{n}");
    }
    assert!(matches!(ws.recv().await, Ok(None)));
    assert_eq!(ws.gaps(), 0);
}

/// Accepted messages are sent before the close frame; a message that comes too late for that is refused.
#[tokio::test(start_paused = true)]
async fn takes_nothing_that_it_will_not_send() {
    let (builder, mut server) = client();
    let mut ws = builder.max_queued_bytes(5).start();
    let sender = ws.sender();
    sender.feed("first").await.unwrap();
    let mut late = pin!(sender.feed("late"));
    assert!(poll(late.as_mut()).await.is_none(), "there is no room");
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("first")));
    // There is space now, but the other message has not taken it when this end closes.
    let closed = {
        let mut closing = pin!(ws.close(1000, ""));
        assert!(poll(closing.as_mut()).await.is_none());
        sleep(SECOND).await;
        let accepted = poll(late.as_mut()).await.expect("there is nothing to wait for").is_ok();
        let (closed, received) = tokio::join!(closing, texts(&mut peer));
        assert_eq!(accepted, received == ["late"], "{received:?}");
        closed
    };
    closed.unwrap();
}

/// The peer may close, or this end may give up, before queued messages are sent: closing then reports it.
#[tokio::test(start_paused = true)]
async fn says_when_it_closes_that_messages_were_dropped() {
    for (case, code, queued) in [
        ("nothing queued", 1000, false),
        ("closed well", 1000, true),
        ("gave up, nothing queued", 1008, false),
        ("gave up", 1008, true),
    ] {
        let (builder, mut server) = client();
        let mut ws = builder.confirm(Confirm::Pong).start();
        let mut peer = server.accept().await;
        if queued {
            ws.feed("never read").await.unwrap();
            sleep(SECOND).await;
        }
        peer.start_close(code, "").unwrap();
        // The peer leaves without reading.
        peer.flush().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(ws.recv().await.is_ok(), code == 1000, "{case}");
        let closed = ws.close(1000, "").await;
        assert_eq!(is_closed(&closed), queued, "{case}: {closed:?}");
        assert_eq!(ws.flush().await.is_err(), queued, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_that_panic_are_told_of() {
    let (connecting, _server) = client();
    let connecting: Builder<Pipe> = {
        drop(connecting);
        Builder::new(|| -> std::future::Ready<_> { panic!("a bug in connect") })
    };
    let (setting_up, mut server) = client();
    let setting_up = setting_up.on_connect(|ws| async move {
        assert_eq!(ws.subprotocol(), Some("one"), "a bug in on_connect");
        Ok(ws)
    });
    for (case, builder) in [("connect", connecting), ("on_connect", setting_up)] {
        let mut ws = builder.start();
        let sender = ws.sender();
        let sending = tokio::spawn(async move { sender.send("never").await });
        let mut peer = None;
        if case == "on_connect" {
            peer = Some(server.accept().await);
        }
        let outage = ws.recv().await.unwrap_err();
        assert!(matches!(outage, Outage::TaskGone), "{case}: {outage:?}");
        assert!(matches!(ws.recv().await, Ok(None)), "{case}: once");
        assert!(is_closed(&sending.await.unwrap()), "{case}");
        if let Some(peer) = &mut peer {
            let end = peer.recv().await.unwrap_err();
            assert_eq!(end.close_code(), Some(CloseCode::INTERNAL_ERROR), "{case}: {end:?}");
        }
    }
}

/// The hook may return a socket that is closed, or that it closes later: the connection then ends with that close.
#[tokio::test(start_paused = true)]
async fn a_hook_may_give_back_a_socket_that_is_closed() {
    for (code, again) in [(1000, false), (4000, true)] {
        let (builder, mut server) = client();
        let mut ws = builder
            .backoff(steady())
            .on_connect(move |mut ws| async move {
                ws.start_close(code, "")?;
                Ok(ws)
            })
            .start();
        ws.feed("queued").await.unwrap();
        let mut peer = server.accept().await;
        assert_eq!(texts(&mut peer).await, [""; 0]);
        drop(peer);
        if again {
            // The client continues to retry.
            assert!(texts(&mut server.accept().await).await.is_empty());
            assert!(is_closed(&ws.close(1000, "").await));
        } else {
            assert!(matches!(ws.recv().await, Ok(None)));
            assert!(server.is_left_alone().await);
        }
    }
}

/// Every duration may be zero or the maximum.
#[tokio::test(start_paused = true)]
async fn keeps_limits_of_nothing_and_of_everything() {
    let jitters = [Jitter::None, Jitter::Equal, Jitter::Full];
    for jitter in jitters {
        let backoff = Backoff::default()
            .with_first(Duration::ZERO)
            .with_max(Duration::ZERO)
            .with_jitter(jitter)
            .with_reset_after(Duration::ZERO);
        let (builder, mut server) = client();
        let mut ws = builder.backoff(backoff).retry_if(|_| true).start();
        let start = Instant::now();
        for _ in 0..100 {
            server.refuse().await;
            drop(server.accept().await);
        }
        assert!(start.elapsed() <= 2 * SECOND, "{:?}", start.elapsed());
        // The client retries without a pause, and can still be closed.
        drop(server);
        assert!(timeout(SECOND, ws.close(1000, "")).await.is_ok(), "{jitter:?}");

        let backoff = Backoff::default()
            .with_first(Duration::MAX)
            .with_max(Duration::MAX)
            .with_jitter(jitter)
            .with_reset_after(Duration::MAX);
        let (builder, mut server) = client();
        let mut ws = builder.backoff(backoff).start();
        server.refuse().await;
        sleep(SECOND).await;
        assert!(matches!(*ws.phase().borrow(), Phase::Waiting { .. }), "{jitter:?}");
        assert!(timeout(SECOND, ws.close(1000, "")).await.is_ok(), "{jitter:?}");
    }

    for (case, limit, works) in [("nothing", Duration::ZERO, false), ("everything", Duration::MAX, true)] {
        let (builder, mut server) = client();
        let builder = builder.backoff(steady()).setup_timeout(limit).on_connect(|ws| async {
            sleep(SECOND).await;
            Ok(ws)
        });
        let ws = builder.start();
        let mut peer = server.accept().await;
        let sent = timeout(10 * SECOND, async { tokio::join!(ws.send("set up"), peer.recv()) }).await;
        assert_eq!(sent.is_ok(), works, "{case}");

        let (builder, mut server) = client();
        let ws = builder.backoff(steady()).confirm(Confirm::Pong).delivery_timeout(limit).start();
        let sender = ws.sender();
        receive(ws);
        let mut peer = server.accept().await;
        tokio::spawn(async move { texts(&mut peer).await });
        let sent = timeout(10 * SECOND, sender.send("delivered")).await;
        assert_eq!(sent.is_ok(), works, "{case}");

        let (builder, mut server) = client();
        let mut ws = builder.close_timeout(limit).start();
        let mut peer = server.accept().await;
        sleep(SECOND).await;
        let (closed, _) = tokio::join!(timeout(SECOND, ws.close(1000, "")), peer.recv());
        assert_eq!(closed.expect("it ends").is_ok(), works, "{case}");
    }

    // A limit of zero still allows one message.
    let (builder, mut server) = client();
    let ws = builder.max_queued(0).max_queued_bytes(0).start();
    ws.try_send("one").unwrap();
    assert!(matches!(ws.try_send(""), Err(Error::QueueFull)));
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("one")));
    let (builder, mut server) = client();
    let ws = builder.max_queued(usize::MAX).max_queued_bytes(usize::MAX).start();
    let mut peer = server.accept().await;
    let (sent, _) = tokio::join!(ws.send("one"), peer.recv());
    sent.unwrap();
}

/// A message that needs all the space gets its turn, however many small messages come and go.
#[tokio::test(start_paused = true)]
async fn a_large_message_is_not_starved_by_small_ones() {
    let (builder, mut server) = client();
    let ws = builder.max_queued(8).max_queued_bytes(64).start();
    let mut peer = server.accept().await;
    let small: Vec<_> = (0..4)
        .map(|_| {
            let sender = ws.sender();
            tokio::spawn(async move { while sender.send("x".repeat(20)).await.is_ok() {} })
        })
        .collect();
    tokio::spawn(async move {
        loop {
            sleep(TICK).await;
            if !matches!(peer.recv().await, Ok(Some(_))) {
                break;
            }
        }
    });
    sleep(SECOND).await;
    for len in [64, 1000, 100_000] {
        timeout(60 * SECOND, ws.send("y".repeat(len))).await.expect("it is sent").unwrap();
    }
    for small in small {
        small.abort();
    }
}

/// All waiting calls are notified, whether they wait for space, for one delivery or for all deliveries.
#[tokio::test(start_paused = true)]
async fn tells_all_who_wait() {
    for end in ["delivered", "withdrawn", "dropped"] {
        let (builder, mut server) = client();
        let ws = builder.confirm(Confirm::Pong).max_queued(2).start();
        let sender = ws.sender();
        let sending: Vec<_> = (0..6)
            .map(|n| {
                let sender = sender.clone();
                tokio::spawn(async move { sender.send(format!("{n}")).await })
            })
            .collect();
        sleep(TICK).await;
        let flushing: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                tokio::spawn(async move { sender.flush().await })
            })
            .collect();
        sleep(TICK).await;
        match end {
            "delivered" => {
                let mut peer = server.accept().await;
                receive(ws);
                let texts = tokio::spawn(async move { timeout(SECOND, texts(&mut peer)).await });
                for sending in sending {
                    timeout(SECOND, sending).await.expect(end).unwrap().unwrap();
                }
                assert!(texts.await.unwrap().is_err());
            }
            "withdrawn" => sending.iter().for_each(tokio::task::JoinHandle::abort),
            _ => {
                drop(ws);
                for sending in sending {
                    assert!(is_closed(&timeout(SECOND, sending).await.expect(end).unwrap()));
                }
            }
        }
        for flushing in flushing {
            let flushed = timeout(SECOND, flushing).await.expect(end).unwrap();
            assert_eq!(is_closed(&flushed), end == "dropped", "{end}: {flushed:?}");
        }
        assert_eq!(sender.queued(), (0, 0), "{end}");
    }
}

/// However connections are cut and senders give up, each connection sees the messages in order, no message is missing
/// unless it was given up, and no message reported as delivered is seen again.
#[tokio::test(start_paused = true)]
async fn sends_in_order_whatever_is_cut_and_given_up() {
    for seed in 0..150_u64 {
        let mut random = Random(seed);
        let confirm = if random.below(2) == 0 { Confirm::Written } else { Confirm::Pong };
        let (builder, mut server) = client();
        let backoff = Backoff::default().with_first(TICK).with_max(8 * TICK);
        let ws = builder.backoff(backoff).confirm(confirm).max_queued(4).max_queued_bytes(300).start();
        let sender = ws.sender();
        receive(ws);
        let seen: Arc<Mutex<Vec<Vec<usize>>>> = Arc::default();
        let serving = tokio::spawn({
            let (seen, mut random) = (Arc::clone(&seen), Random(seed ^ 0x00ab_cdef));
            async move {
                loop {
                    let cut = random.below(40);
                    let faults = Faults::new().random(seed);
                    let faults = match random.below(3) {
                        0 => faults.fail_at(Operation::Any(cut), ErrorKind::ConnectionReset),
                        1 => faults.fail_at(Operation::Write(cut / 2), ErrorKind::BrokenPipe),
                        _ => faults,
                    };
                    let capacity = usize::try_from(1 + random.below(300)).unwrap();
                    let mut peer = server.accept_over(capacity, faults).await;
                    seen.lock().unwrap().push(Vec::new());
                    let mut left = random.below(20);
                    while let Ok(Some(message)) = peer.recv().await {
                        let number = text(&message).trim_end_matches('x').parse().unwrap();
                        seen.lock().unwrap().last_mut().unwrap().push(number);
                        left = left.saturating_sub(1);
                        if left == 0 && random.below(3) == 0 {
                            peer.abort();
                            break;
                        }
                    }
                }
            }
        });
        let (mut kept, mut delivered) = (Vec::new(), Vec::new());
        for number in 0..40 {
            let padding = usize::try_from(random.below(200)).unwrap();
            let message = format!("{number}{}", "x".repeat(padding));
            match random.below(3) {
                0 => {
                    timeout(600 * SECOND, sender.feed(message))
                        .await
                        .expect("there is room in time")
                        .unwrap();
                    kept.push(number);
                }
                1 => {
                    timeout(600 * SECOND, sender.send(message)).await.expect("it is sent in time").unwrap();
                    kept.push(number);
                    let connections = seen.lock().unwrap().len();
                    delivered.push((number, connections));
                }
                _ => {
                    let patience = Duration::from_millis(random.below(5));
                    if timeout(patience, sender.send(message)).await.is_ok() {
                        kept.push(number);
                    }
                }
            }
        }
        timeout(600 * SECOND, sender.flush()).await.expect("all is sent in time").unwrap();
        // Written data is still in transit.
        sleep(SECOND).await;
        serving.abort();
        let seen = seen.lock().unwrap().clone();
        for (at, connection) in seen.iter().enumerate() {
            assert!(connection.is_sorted_by(|a, b| a < b), "seed {seed}, connection {at}: {seen:?}");
            for (number, connections) in &delivered {
                let again = at >= *connections && connection.contains(number);
                assert!(!again, "seed {seed}: {number} was delivered before connection {at}: {seen:?}");
            }
        }
        if confirm == Confirm::Pong {
            for number in kept {
                assert!(
                    seen.iter().flatten().any(|seen| *seen == number),
                    "seed {seed}: {number} in {seen:?}"
                );
            }
        }
    }
}

/// Reproducible random numbers: a linear congruential generator with an xorshift step.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
        self.0 ^= self.0 >> 29;
        (self.0 >> 7) % limit
    }
}

/// Without the default keepalive, the client would never detect that a silent server has vanished.
#[tokio::test]
async fn notices_a_server_that_has_vanished_though_no_keepalive_was_set() {
    let (address, server) = serve(|request, mut stream| async move {
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent).await;
    })
    .await;
    let config = longwire_client::Config::default().with_keepalive(None);
    let mut ws =
        Client::new(format!("ws://{address}")).config(config).reconnecting().retry_if(|_| false).start();
    let mut state = ws.phase();
    state.wait_for(|state| matches!(state, Phase::Connected)).await.unwrap();
    tokio::time::pause();
    let outage = timeout(600 * SECOND, ws.recv()).await.expect("it is noticed").unwrap_err();
    assert!(matches!(outage, Outage::Lost(Error::PeerGone)), "{outage:?}");
    server.abort();
}
