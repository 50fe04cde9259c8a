//! A reconnecting connection: attempts, gaps, hooks, states and its end. In memory and in virtual time.

mod support;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Response, StatusCode};
use longwire_client::reconnect::{Backoff, Confirm, Event, Gap, Jitter, Outage, Phase, Reconnecting, Sender};
use longwire_client::{Client, Error, ProxyError, RedirectError, ResponseError, Stage};
use longwire_connection::testing::{Faults, duplex, repeatable_keys};
use longwire_connection::{
    CloseCode, CloseFrame, Config, Handover, MemoryBudget, Message, ProtocolError, WebSocket,
};
use longwire_handshake::HeadError;
use support::attempts::{SECOND, TICK, client, steady, text};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

/// Receives an event, which must be a gap.
async fn gap(ws: &mut Reconnecting) -> Gap {
    match ws.next_event().await {
        Ok(Some(Event::Reconnected(gap))) => gap,
        other => panic!("{other:?} in place of a gap"),
    }
}

fn about(expected: Duration, seen: Duration) -> bool {
    (expected..expected + TICK).contains(&seen)
}

#[tokio::test(start_paused = true)]
async fn receives_over_many_connections_and_tells_where_something_may_be_missing() {
    let (builder, mut server) = client();
    let mut ws = builder.backoff(steady()).start();
    for (round, ending) in ["lost", "1001", "1011", "1000"].into_iter().enumerate() {
        let mut peer = server.accept().await;
        for part in 0..3 {
            peer.send(format!("{ending} {part}")).await.unwrap();
        }
        match ending {
            "lost" => peer.abort(),
            code => peer.start_close(code.parse::<u16>().unwrap(), "").unwrap(),
        }
        if round > 0 {
            let gap = gap(&mut ws).await;
            assert_eq!(gap.attempts, 1, "before {ending}");
            assert!(about(SECOND, gap.duration), "before {ending}: {gap:?}");
        }
        for part in 0..3 {
            let received = ws.recv().await.unwrap();
            assert_eq!(received, Some(Message::text(format!("{ending} {part}"))));
        }
        assert_eq!(ws.gaps(), round as u64);
    }
    assert!(matches!(ws.recv().await, Ok(None)));
    assert!(matches!(ws.recv().await, Ok(None)));
    assert!(server.is_left_alone().await);
}

#[tokio::test(start_paused = true)]
async fn tells_of_one_gap_for_all_attempts_that_it_took() {
    let (builder, mut server) = client();
    let mut ws = builder.backoff(steady()).start();
    server.refuse().await;
    server.accept().await.abort();
    for _ in 0..3 {
        server.refuse().await;
    }
    let _peer = server.accept().await;
    let gap = gap(&mut ws).await;
    assert!(matches!(*gap.outage, Outage::Lost(longwire_connection::Error::Lost)), "{gap:?}");
    assert_eq!(gap.attempts, 4);
    assert!(about(4 * SECOND, gap.duration), "{gap:?}");
    assert!(timeout(SECOND, ws.next_event()).await.is_err(), "one");
}

/// The application leaves the inbox full, so the gap must wait while further connections come and go.
#[tokio::test(start_paused = true)]
async fn tells_of_a_gap_for_which_there_was_no_room_at_first() {
    let (builder, mut server) = client();
    let mut ws = builder.delivery_timeout(SECOND).backoff(steady()).start();
    let mut peer = server.accept().await;
    for n in 0..256 {
        peer.send(format!("{n}")).await.unwrap();
    }
    sleep(SECOND).await;
    // The client does not receive, so only an undelivered message reveals that the connection is lost.
    ws.feed("x".repeat(128 * 1024)).await.unwrap();
    let _second = server.accept().await;
    let _third = server.accept().await;
    drop(peer);
    for n in 0..256 {
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text(format!("{n}"))));
        assert_eq!(ws.gaps(), 0);
    }
    let gap = gap(&mut ws).await;
    assert!(matches!(*gap.outage, Outage::Undelivered { .. }), "{gap:?}");
    assert_eq!(gap.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn waits_longer_after_each_failure_as_the_backoff_says() {
    for (jitter, low) in [(Jitter::None, 1.0), (Jitter::Equal, 0.5), (Jitter::Full, 0.0)] {
        let (builder, mut server) = client();
        let _ws = builder.backoff(Backoff::default().with_jitter(jitter)).start();
        let mut last = server.refuse().await;
        let mut waits = Vec::new();
        for step in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000] {
            let step = Duration::from_millis(step);
            let at = server.refuse().await;
            let wait = at - last;
            assert!((step.mul_f64(low)..step + TICK).contains(&wait), "{jitter:?} {step:?}: {wait:?}");
            waits.push(wait.as_millis());
            last = at;
        }
        let longest = waits.split_off(6);
        let alike = longest.windows(2).all(|waits| waits[0].abs_diff(waits[1]) <= 2);
        assert_eq!(alike, jitter == Jitter::None, "{jitter:?}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn forgets_failures_only_after_a_connection_that_lasted() {
    for (lasted, failures) in [(29, 3), (30, 1)] {
        let (builder, mut server) = client();
        let ws = builder.backoff(steady()).start();
        let mut state = ws.phase();
        server.refuse().await;
        server.refuse().await;
        let peer = server.accept().await;
        state.wait_for(|state| matches!(state, Phase::Connected)).await.unwrap();
        sleep(lasted * SECOND + TICK).await;
        peer.abort();
        let waiting = state.wait_for(|state| matches!(state, Phase::Waiting { .. })).await.unwrap().clone();
        let Phase::Waiting { failures: counted, until, cause, .. } = waiting else { unreachable!() };
        assert_eq!((counted, until), (failures, Instant::now() + SECOND), "lasted {lasted} s");
        assert!(matches!(*cause, Outage::Lost(longwire_connection::Error::Lost)), "{cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn can_be_watched() {
    let (builder, mut server) = client();
    let mut ws = builder.backoff(steady()).start();
    let mut state = ws.phase();
    let mut seen = vec![state.borrow_and_update().clone()];
    let mut next = async |state: &mut tokio::sync::watch::Receiver<Phase>| {
        state.changed().await.unwrap();
        seen.push(state.borrow_and_update().clone());
    };
    let start = Instant::now();
    // The task sets the first state again when it starts.
    next(&mut state).await;
    server.refuse().await;
    next(&mut state).await;
    next(&mut state).await;
    let peer = server.accept().await;
    next(&mut state).await;
    let (closed, ()) = tokio::join!(ws.close(1000, ""), async { drop(peer) });
    closed.unwrap();
    next(&mut state).await;
    let [_, Phase::Connecting { attempt: 1 }, waiting, rest @ ..] = &seen[..] else { panic!("{seen:?}") };
    let Phase::Waiting { failures: 1, until, cause, .. } = waiting else { panic!("{waiting:?}") };
    assert_eq!(*until, start + SECOND);
    assert!(matches!(&**cause, Outage::Connect(Error::Io(_))), "{cause:?}");
    let [Phase::Connecting { attempt: 2 }, Phase::Connected, Phase::Stopped] = rest else {
        panic!("{rest:?}")
    };
}

#[tokio::test(start_paused = true)]
async fn gives_up_where_it_is_told_to_and_tells_why() {
    let (builder, mut server) = client();
    let start = Instant::now();
    let mut ws = builder
        .backoff(steady())
        .retry_if(move |failure| {
            assert!(matches!(failure.outage, Outage::Connect(Error::Io(_))));
            assert!(about((failure.attempt - 1) * SECOND, failure.elapsed), "{failure:?}");
            assert_eq!(failure.elapsed, start.elapsed());
            failure.attempt < 4
        })
        .start();
    let sender = ws.sender();
    let waiting = tokio::spawn(async move { sender.send("never").await });
    for _ in 0..4 {
        server.refuse().await;
    }
    let last = ws.recv().await.unwrap_err();
    assert!(matches!(last, Outage::Connect(Error::Io(_))), "{last:?}");
    assert!(matches!(ws.recv().await, Ok(None)), "once");
    let closed = longwire_connection::Error::Closed;
    assert!(matches!(waiting.await.unwrap(), Err(error) if error.to_string() == closed.to_string()));
    assert!(matches!(ws.send("later").await, Err(longwire_connection::Error::Closed)));
    assert!(matches!(ws.feed("later").await, Err(longwire_connection::Error::Closed)));
    assert!(matches!(ws.try_send("later"), Err(longwire_connection::Error::Closed)));
    assert!(matches!(ws.flush().await, Err(longwire_connection::Error::Closed)), "one was dropped");
    assert!(matches!(*ws.phase().borrow(), Phase::Stopped));
    assert!(ws.sender().is_closed());
    assert!(matches!(ws.close(1000, "").await, Err(longwire_connection::Error::Closed)), "one was dropped");
}

#[tokio::test(start_paused = true)]
async fn gives_up_by_itself_where_another_attempt_would_do_no_better() {
    let codes = [
        (1000, false),
        (1001, true),
        (1002, false),
        (1003, false),
        (1007, false),
        (1008, false),
        (1009, false),
        (1010, false),
        (1011, true),
        (1012, true),
        (1013, true),
        (1014, true),
        (3000, true),
        (4000, true),
    ];
    for (code, again) in codes {
        let (builder, mut server) = client();
        let mut ws = builder.start();
        let mut peer = server.accept().await;
        peer.start_close(code, "").unwrap();
        while peer.recv().await.unwrap().is_some() {}
        assert_eq!(!server.is_left_alone().await, again, "{code}");
        if !again {
            assert_eq!(ws.recv().await.is_ok(), code == 1000, "{code}");
        }
    }
    for (case, bytes, again) in [
        ("close without a code", &b"\x88\x00"[..], true),
        ("breach of the protocol", b"\x8f\x00", false),
        ("message above the limit", b"\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xff", false),
        ("end in the middle of a frame", b"\x82\x7e", true),
    ] {
        let (builder, mut server) = client();
        let _ws = builder.start();
        let mut peer = server.accept_raw().await;
        peer.write_all(bytes).await.unwrap();
        drop(peer);
        assert_eq!(!server.is_left_alone().await, again, "{case}");
    }
    for (status, again) in [
        (200, true),
        (301, true),
        (400, false),
        (401, false),
        (404, false),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (503, true),
    ] {
        let (builder, mut server) = client();
        let _ws = builder.start();
        let response = Response::builder().status(status).body(bytes::Bytes::new()).unwrap();
        let error = Error::UnexpectedResponse { response: Box::new(response), body_is_whole: true };
        server.fail(error).await;
        assert_eq!(!server.is_left_alone().await, again, "{status}");
    }
    for (case, error) in [
        ("an answer without the key's", Error::from(ResponseError::Accept)),
        ("an answer that is no HTTP", ResponseError::Head(HeadError::StartLine).into()),
        ("a proxy that speaks no SOCKS", ProxyError::NotSocks.into()),
        ("a redirect without end", RedirectError::TooMany { limit: 3 }.into()),
    ] {
        let (builder, mut server) = client();
        let _ws = builder.start();
        server.fail(error).await;
        assert!(server.is_left_alone().await, "{case}");
    }
    for (case, error) in [
        ("time", Error::Timeout { limit: SECOND, host: "h".to_owned(), port: 1, stage: Stage::Response }),
        ("name", Error::Resolve { host: "h".to_owned(), source: io::ErrorKind::NotFound.into() }),
        (
            "refusal",
            Error::Connect { host: "h".to_owned(), port: 1, source: io::ErrorKind::ConnectionRefused.into() },
        ),
        ("end", Error::ClosedEarly),
        ("end of the proxy", ProxyError::ClosedEarly.into()),
    ] {
        let (builder, mut server) = client();
        let _ws = builder.start();
        server.fail(error).await;
        assert!(!server.is_left_alone().await, "{case}");
    }
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let location = Box::new("ws://elsewhere/".parse().unwrap());
    server.fail(RedirectError::Plain { location }.into()).await;
    assert!(server.is_left_alone().await, "a redirect out of TLS");
    let error = ws.recv().await.unwrap_err();
    assert!(matches!(error, Outage::Connect(Error::Redirect(RedirectError::Plain { .. }))), "{error:?}");
    for url in ["ftp://host/", "ws://"] {
        let error = Client::new(url).reconnecting().start().recv().await.unwrap_err();
        assert!(matches!(error, Outage::Connect(Error::Uri(_))), "{url}: {error:?}");
    }
    let error =
        Client::new("ws://host/").header("a", "b\r\nc").reconnecting().start().recv().await.unwrap_err();
    assert!(matches!(error, Outage::Connect(Error::Option(_))), "{error:?}");
}

/// Returns a refusal with this status and `Retry-After`.
fn refusal(status: u16, after: &str) -> Error {
    let response = Response::builder().status(status).header("retry-after", after).body(bytes::Bytes::new());
    Error::UnexpectedResponse { response: Box::new(response.unwrap()), body_is_whole: true }
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_server_asks_for() {
    for (case, status, after, limit, seconds) in [
        ("overloaded", 503, "20", 300, 20),
        ("too many", 429, "20", 300, 20),
        ("above the limit", 503, "3600", 300, 300),
        ("ignored", 503, "20", 0, 0),
        ("malformed", 503, "soon", 300, 0),
        ("another status", 500, "20", 300, 0),
    ] {
        let (builder, mut server) = client();
        let ws = builder.backoff(steady().with_max_retry_after(limit * SECOND)).start();
        server.fail(refusal(status, after)).await;
        let refused = Instant::now();
        let mut state = ws.phase();
        let waiting = state.wait_for(|state| matches!(state, Phase::Waiting { .. })).await.unwrap().clone();
        let Phase::Waiting { until, cause, .. } = waiting else { unreachable!() };
        let asked = cause.retry_after();
        let again = server.refuse().await;
        assert!(about((seconds + 1) * SECOND, again - refused), "{case}: {:?}", again - refused);
        assert_eq!(until, again, "{case}");
        assert_eq!(asked.is_some(), status != 500 && after != "soon", "{case}");
    }
    let response = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).header("retry-after", "7");
    let by_proxy =
        Outage::from(Error::from(ProxyError::Refused { response: Box::new(response.body(()).unwrap()) }));
    assert_eq!(by_proxy.retry_after(), Some(7 * SECOND), "a proxy is heard as well");
}

#[tokio::test(start_paused = true)]
async fn a_gap_names_its_first_and_its_last_cause() {
    let (builder, mut server) = client();
    let mut ws = builder.backoff(steady()).start();
    server.accept().await.abort();
    server.refuse().await;
    server.fail(refusal(503, "")).await;
    let _peer = server.accept().await;
    let gap = gap(&mut ws).await;
    assert!(matches!(*gap.outage, Outage::Lost(longwire_connection::Error::Lost)), "{gap:?}");
    assert!(matches!(*gap.last_failure, Outage::Connect(Error::UnexpectedResponse { .. })), "{gap:?}");
    assert_eq!(gap.attempts, 3);
}

/// A hook may receive the end of its connection and return the connection nevertheless.
#[tokio::test(start_paused = true)]
async fn a_hook_may_return_a_connection_that_has_ended() {
    let (builder, mut server) = client();
    let builder = builder.retry_if(|_| false).on_connect(|mut ws| async move {
        assert!(ws.recv().await.is_err());
        Ok(ws)
    });
    let mut ws = builder.start();
    server.accept().await.abort();
    let outage = ws.recv().await.unwrap_err();
    assert!(matches!(outage, Outage::Lost(longwire_connection::Error::Closed)), "{outage:?}");
}

#[tokio::test(start_paused = true)]
async fn runs_the_hook_on_each_connection_before_anything_else() {
    let (builder, mut server) = client();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut ws = builder
        .on_connect(move |mut ws| {
            let call = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                ws.send(format!("subscribe {call}")).await?;
                if call == 1 {
                    return Err("not this one".into());
                }
                assert_eq!(ws.recv().await?, Some(Message::text("subscribed")));
                Ok(ws)
            }
        })
        .start();
    let mut state = ws.phase();
    ws.feed("first").await.unwrap();
    for call in 0..3 {
        let mut peer = server.accept().await;
        assert_eq!(peer.recv().await.unwrap(), Some(Message::text(format!("subscribe {call}"))));
        assert!(!matches!(*state.borrow_and_update(), Phase::Connected), "not yet");
        if call == 1 {
            assert_eq!(peer.recv().await.unwrap(), None, "it is closed");
            continue;
        }
        peer.send("subscribed").await.unwrap();
        peer.send(format!("news {call}")).await.unwrap();
        if call == 0 {
            assert_eq!(peer.recv().await.unwrap(), Some(Message::text("first")));
        }
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text(format!("news {call}"))));
        peer.abort();
    }
    assert_eq!(ws.gaps(), 1, "the connection that was not set up brought nothing");
}

#[tokio::test(start_paused = true)]
async fn bounds_the_time_of_the_hook() {
    let (builder, mut server) = client();
    let mut ws = builder
        .setup_timeout(7 * SECOND)
        .retry_if(|_| false)
        .on_connect(|ws| async move {
            std::future::pending::<()>().await;
            Ok(ws)
        })
        .start();
    let start = Instant::now();
    let mut peer = server.accept().await;
    assert_eq!(peer.recv().await.unwrap(), None, "it is closed");
    assert!(about(7 * SECOND, start.elapsed()), "{:?}", start.elapsed());
    let outage = ws.recv().await.unwrap_err();
    assert!(matches!(outage, Outage::SetupTimeout { limit } if limit == 7 * SECOND), "{outage:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_is_told_of() {
    let (builder, mut server) = client();
    let mut ws = builder.retry_if(|_| panic!("a bug in the application")).start();
    let sender = ws.sender();
    let sending = tokio::spawn(async move { sender.send("never").await });
    server.refuse().await;
    let outage = ws.recv().await.unwrap_err();
    assert!(matches!(outage, Outage::TaskGone), "{outage:?}");
    assert!(sending.await.unwrap().is_err());
    assert!(matches!(*ws.phase().borrow(), Phase::Stopped));
    assert!(ws.close(1000, "").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn closes_behind_what_is_queued() {
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let mut peer = server.accept().await;
    let sender = ws.sender();
    ws.feed("last words").await.unwrap();
    let closing = tokio::spawn(async move {
        let closed = ws.close(4001, "bye").await;
        (ws, closed)
    });
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("last words")));
    let end = peer.recv().await.unwrap_err();
    assert_eq!(end.close_code(), Some(CloseCode::new(4001)));
    let (mut ws, closed) = closing.await.unwrap();
    closed.unwrap();
    assert!(matches!(sender.send("late").await, Err(longwire_connection::Error::Closed)));
    assert!(matches!(ws.recv().await, Ok(None)));
    assert!(ws.close(1000, "").await.is_ok(), "twice");
    assert!(server.is_left_alone().await);
}

#[tokio::test(start_paused = true)]
async fn closes_in_time_whatever_it_was_doing() {
    for (case, most, drops) in [
        ("connecting", 0, true),
        ("waiting", 0, true),
        ("setting up", 0, true),
        ("a peer that takes nothing", 3, true),
        ("a peer that does not answer", 3, false),
    ] {
        let (builder, mut server) = client();
        let builder = builder.backoff(steady()).close_timeout(3 * SECOND);
        let builder = if case == "setting up" {
            builder.on_connect(|_| async { std::future::pending().await })
        } else {
            builder
        };
        let mut ws = builder.start();
        let sender = ws.sender();
        let sending = tokio::spawn(async move { sender.send("x".repeat(10_000)).await });
        let (mut attempt, mut peer) = (None, None);
        match case {
            "connecting" => attempt = Some(server.attempt().await),
            "waiting" => drop(server.refuse().await),
            "a peer that takes nothing" => peer = Some(server.accept_over(100, Faults::new()).await),
            _ => peer = Some(server.accept().await),
        }
        sleep(SECOND / 2).await;
        let start = Instant::now();
        let closed = ws.close(1000, "").await;
        assert!(start.elapsed() <= most * SECOND + TICK, "{case}: {:?}", start.elapsed());
        assert!(closed.is_err(), "{case}: {closed:?}");
        assert_eq!(sending.await.unwrap().is_err(), drops, "{case}");
        assert!(matches!(ws.recv().await, Ok(None)), "{case}");
        drop((attempt, peer));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_received_before_it_closed_can_still_be_taken() {
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let mut peer = server.accept().await;
    peer.send("early").await.unwrap();
    sleep(SECOND).await;
    let (closed, _) = tokio::join!(ws.close(1000, ""), peer.recv());
    closed.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("early")));
    assert!(matches!(ws.recv().await, Ok(None)));
}

#[tokio::test(start_paused = true)]
async fn closing_goes_on_if_nobody_waits_for_it() {
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let mut peer = server.accept().await;
    assert!(timeout(SECOND, ws.close(4002, "")).await.is_err());
    let end = peer.recv().await.unwrap_err();
    assert_eq!(end.close_code(), Some(CloseCode::new(4002)));
    drop(peer);
    ws.close(1000, "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refuses_a_close_that_cannot_be_sent() {
    let (builder, mut server) = client();
    let mut ws = builder.start();
    let mut peer = server.accept().await;
    for (code, reason) in [(1006, ""), (0, ""), (1000, &*"x".repeat(124))] {
        let error = ws.close(code, reason).await.unwrap_err();
        assert!(matches!(error, longwire_connection::Error::Invalid(_)), "{code}: {error:?}");
    }
    ws.send("still here").await.unwrap();
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("still here")));
}

#[tokio::test(start_paused = true)]
async fn closes_when_it_is_dropped_however_many_senders_there_are() {
    let (builder, mut server) = client();
    let ws = builder.start();
    let sender = ws.sender();
    let mut peer = server.accept().await;
    ws.feed("last words").await.unwrap();
    drop(ws);
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("last words")));
    assert_eq!(peer.recv().await.unwrap(), None);
    assert_eq!(peer.close_received().map(|frame| frame.code), Some(CloseCode::NORMAL));
    assert!(matches!(sender.send("late").await, Err(longwire_connection::Error::Closed)));
    assert!(server.is_left_alone().await);
}

/// Drops `recv` after various times, over two connections: no message is lost or received twice.
#[tokio::test(start_paused = true)]
async fn receiving_can_be_given_up_at_any_time() {
    for patience in 0..5 {
        let (builder, mut server) = client();
        let mut ws = builder.backoff(steady()).start();
        let serving = tokio::spawn(async move {
            for round in 0..2 {
                let mut peer = server.accept().await;
                for part in 0..5 {
                    sleep(Duration::from_millis(3)).await;
                    peer.send(format!("{}", 5 * round + part)).await.unwrap();
                }
                peer.abort();
            }
            server
        });
        for n in 0..10 {
            let received = loop {
                match timeout(Duration::from_millis(patience), ws.recv()).await {
                    Ok(received) => break received.unwrap(),
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            };
            assert_eq!(received, Some(Message::text(format!("{n}"))), "patience {patience}");
        }
        assert_eq!(ws.gaps(), 1, "patience {patience}");
        drop(serving.await.unwrap());
    }
}

#[tokio::test]
async fn connects_again_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for _ in 0..3 {
            // Close without sending anything.
            drop(listener.accept().await.unwrap());
        }
    });
    let backoff = Backoff::default().with_first(Duration::from_millis(1));
    let mut ws = Client::new(format!("ws://{address}"))
        .reconnecting()
        .backoff(backoff)
        .retry_if(|failure| failure.attempt < 3)
        .start();
    let last = ws.recv().await.unwrap_err();
    assert!(matches!(last, Outage::Connect(Error::ClosedEarly | Error::Io(_))), "{last:?}");
}

#[test]
fn tells_in_words_what_happened() {
    let lost = Outage::Lost(longwire_connection::Error::Lost);
    let refused = Outage::Connect(io::Error::from(io::ErrorKind::ConnectionRefused).into());
    for (outage, words) in [
        (lost, "the connection was lost: it ended without a close frame"),
        (refused, "connection failed during the handshake"),
        (Outage::Setup("no".into()), "setting up the connection failed"),
        (
            Outage::Closed(CloseFrame::new(CloseCode::GOING_AWAY, "")),
            "the peer closed the connection: 1001 going away",
        ),
    ] {
        assert_eq!(outage.to_string(), words);
    }
}

#[test]
fn can_be_used_from_any_task() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Reconnecting>();
    check::<Sender>();
    check::<Outage>();
    check::<Event>();
}

/// What the hook has noted at the time of an attempt is all that was received, whatever the application has taken.
#[tokio::test(start_paused = true)]
async fn notes_each_message_before_the_next_attempt() {
    let (builder, mut server) = client();
    let noted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&noted);
    let note = move |message: &Message| {
        let number: usize = message.as_text().unwrap().parse().unwrap();
        assert_eq!(count.swap(number, Ordering::Relaxed) + 1, number, "in order, once");
    };
    let mut ws = builder.backoff(steady()).on_message(note).start();
    let mut next = 1;
    for _ in 0..3 {
        let mut peer = server.accept().await;
        assert_eq!(noted.load(Ordering::Relaxed) + 1, next);
        for _ in 0..10 {
            peer.send(next.to_string()).await.unwrap();
            next += 1;
        }
        peer.start_close(1001, "").unwrap();
    }
    for number in 1..=20 {
        assert_eq!(ws.recv().await.unwrap(), Some(Message::text(number.to_string())));
    }
}

/// A client that resumes after the last noted message would otherwise never receive it.
#[tokio::test(start_paused = true)]
async fn what_was_noted_reaches_the_application_though_its_connection_is_dropped() {
    let (builder, mut server) = client();
    let noted: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&noted);
    let mut ws = builder
        .backoff(steady())
        .confirm(Confirm::Pong)
        .delivery_timeout(5 * SECOND)
        .on_message(move |message| note.lock().unwrap().push(text(message)[..1].to_owned()))
        .start();
    let mut peer = server.accept().await;
    // The first message leaves no room for the second, until the application receives it.
    let feeding = tokio::spawn(async move {
        for n in 0..3 {
            peer.send(format!("{n}{}", "x".repeat(700_000))).await.unwrap();
        }
    });
    sleep(SECOND).await;
    ws.feed("not read in time").await.unwrap();
    let mut peer = timeout(60 * SECOND, server.accept()).await.expect("the first connection is dropped");
    feeding.abort();
    let noted = noted.lock().unwrap().clone();
    let mut received = Vec::new();
    while let Some(Event::Message(message)) = ws.next_event().await.unwrap() {
        received.push(text(&message)[..1].to_owned());
    }
    assert_eq!(received, noted);
    assert_eq!(peer.recv().await.unwrap(), Some(Message::text("not read in time")));
}

/// The reason for the failure of a hook may be that of the connection.
#[tokio::test(start_paused = true)]
async fn a_connection_refused_in_its_hook_is_refused_for_good() {
    for (code, again) in
        [(1008, false), (1009, false), (1002, false), (1011, true), (1013, true), (4000, true)]
    {
        let (builder, mut server) = client();
        let mut ws = builder
            .backoff(steady())
            .on_connect(|mut ws| async move {
                ws.send("token").await?;
                ws.recv().await?.ok_or("no answer")?;
                Ok(ws)
            })
            .start();
        let mut peer = server.accept().await;
        assert_eq!(peer.recv().await.unwrap(), Some(Message::text("token")));
        peer.start_close(code, "").unwrap();
        let _ = peer.recv().await;
        assert_eq!(server.is_left_alone().await, !again, "{code}");
        if !again {
            let outage = ws.recv().await.unwrap_err();
            assert!(matches!(outage, Outage::Setup(_)), "{code}: {outage:?}");
        }
    }
}

/// A message that the memory budget can never hold would arrive again on each connection; one for which there is no
/// room at present may arrive later.
#[tokio::test(start_paused = true)]
async fn a_message_larger_than_the_memory_budget_is_final() {
    // The header of a frame of more than 65535 bytes.
    let header = |first: u8, len: u64| [&[first, 127][..], &len.to_be_bytes()].concat();
    for (case, len, fragments, others, again) in [
        ("larger than the budget", 2 << 20, 1, 0, false),
        ("in fragments", 2 << 20, 16, 0, false),
        ("larger than what is left", 700 << 10, 1, 500 << 10, true),
    ] {
        let budget = MemoryBudget::new(1 << 20);
        let config = Config::default().with_memory(budget.clone());
        // Another connection, in the middle of a message.
        let (mut holding, other) = duplex(1 << 20);
        let mut other = WebSocket::new(other, Handover::client(repeatable_keys), &config);
        if others > 0 {
            holding.write_all(&header(0x82, others)).await.unwrap();
            holding.write_all(&vec![0; 400 << 10]).await.unwrap();
            assert!(timeout(SECOND, other.recv()).await.is_err());
            assert!(budget.used() >= 400 << 10);
        }
        let (builder, mut server) = client();
        let mut ws = builder.start();
        let start = Instant::now();
        for _ in 0..if again { 10 } else { 1 } {
            let mut peer = server.accept_raw_with(Faults::new(), &config).await;
            for fragment in 0..fragments {
                let opcode = if fragment == 0 { 2 } else { 0 };
                let fin = if fragment == fragments - 1 { 0x80 } else { 0 };
                let _ = peer.write_all(&header(fin | opcode, len / fragments)).await;
                let _ = peer.write_all(&vec![0; usize::try_from(len / fragments).unwrap()]).await;
            }
        }
        if again {
            assert!(start.elapsed() > 60 * SECOND, "{case}: the waits grow: {:?}", start.elapsed());
            continue;
        }
        assert!(server.is_left_alone().await, "{case}");
        let outage = ws.recv().await.unwrap_err();
        let Outage::Lost(longwire_connection::Error::Protocol(error)) = outage else {
            panic!("{case}: {outage:?}");
        };
        assert!(matches!(error, ProtocolError::MessageTooLong { .. }), "{case}: {error:?}");
    }
}
