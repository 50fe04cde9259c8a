//! The server's counts and, with the feature `metrics`, those passed to the recorder.

mod common;

use std::time::Duration;

use longwire_connection::{Keepalive, Measurements, PreparedMessage};
use longwire_server::{HandlerResult, Request, Server, ServerStats, Socket};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use common::{
    LONG, REQUEST, Running, bind, check_echo, exchange, expect, expect_long, frame, open, open_raw, soon,
    start_with, text,
};

/// Echoes messages, or sends too much.
async fn serve(mut ws: Socket, _: Request) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        if message.as_text() == Some("leave") {
            return Ok(());
        } else if message.as_text() == Some("flood") {
            // The client does not read yet, so the first message fills its buffers.
            for number in [&*"1".repeat(LONG), "2", "3"] {
                let prepared = PreparedMessage::new(number);
                ws.hub().broadcast_prepared(&prepared, |client| client.id() == ws.id());
            }
        } else {
            ws.send(message).await?;
        }
    }
    Ok(())
}

async fn start(measurements: Option<Measurements>) -> Running {
    let server: Server = bind().await.configure(|config| {
        config.hub.max_clients = Some(1);
        config.hub.queue = 1;
        config.connection.keepalive = Some(Keepalive::default().with_interval(Duration::from_millis(100)));
        config.connection.measurements = measurements;
    });
    start_with(server, serve)
}

/// Connects six clients that leave in different ways, and sends three requests that are refused.
async fn visit(server: &Running) {
    let hub = server.handle.hub();
    let mut client = open(server.addr).await;
    check_echo(&mut client, "hello").await;
    check_echo(&mut client, "you").await;
    let full = exchange(server.addr, REQUEST.as_bytes()).await;
    assert!(full.starts_with("HTTP/1.1 503 "), "{full}");
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\0\r\n\r\n"] {
        exchange(server.addr, request.as_bytes()).await;
    }
    soon(client.close(1000, "")).await.unwrap();
    soon(hub.emptied()).await;

    for (ending, answer) in [
        (frame(0x88, b"\x0f\xa1"), &b"\x88\x02\x0f\xa1"[..]),
        (frame(0x88, b""), b"\x88\x00"),
        (text("flood"), b"\x88\x0a\x03\xf5"),
        (text("leave"), b"\x88\x02\x03\xe8"),
    ] {
        let mut client = open_raw(server.addr).await;
        client.write_all(&ending).await.unwrap();
        if ending == text("flood") {
            // Not before the handler has sent all three.
            sleep(Duration::from_millis(100)).await;
            expect_long(&mut client).await;
        }
        expect(&mut client, answer).await;
        drop(client);
        soon(hub.emptied()).await;
    }

    // This client answers a ping and then disappears.
    let mut client = open_raw(server.addr).await;
    expect(&mut client, b"\x89\x00").await;
    client.write_all(&frame(0x8a, b"")).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(client);
    soon(hub.emptied()).await;
}

fn check(stats: &ServerStats) {
    assert_eq!((stats.hub.clients, stats.hub.admitted, stats.hub.refused), (0, 6, 1));
    assert_eq!((stats.hub.closed_slow, stats.hub.dropped), (1, 1));
    assert_eq!(stats.traffic.messages_received, 4);
    assert_eq!(stats.traffic.messages_sent, 3);
    assert_eq!(stats.traffic.bytes_queued, 0);
    // Lower bounds for the messages only: the number of pings depends on the machine.
    assert!(stats.traffic.bytes_received >= 11 + 9 + 11, "{stats:?}");
    assert!(stats.traffic.bytes_sent >= 7 + 5 + 3, "{stats:?}");
    let codes: Vec<_> = stats.close_codes.clone().into_iter().collect();
    assert_eq!(codes, [(1000, 2), (1005, 1), (1006, 1), (1013, 1), (4001, 1)]);
    let rejections: Vec<_> = stats.rejections.clone().into_iter().collect();
    assert_eq!(rejections, [(400, 1), (426, 1), (503, 1)]);
    assert_eq!(stats.handshakes.count(), 6);
    assert!(stats.handshakes.quantile(1.0) < Some(10_000_000), "in microseconds: {stats:?}");
}

#[tokio::test]
async fn everything_that_happens_is_counted_once() {
    #[cfg(feature = "metrics")]
    let recorder = recorder::install();
    let server = start(Some(Measurements::default())).await;
    assert_eq!(server.handle.stats(), ServerStats::default());
    visit(&server).await;
    let stats = server.handle.stats();
    check(&stats);
    let received: Vec<_> = stats.measurements.received.buckets().collect();
    assert_eq!(received, [(3, 1), (7, 3)]);
    assert_eq!(
        stats.measurements.sent.buckets().collect::<Vec<_>>(),
        [(3, 1), (7, 1), ((LONG as u64) * 2 - 1, 1)]
    );
    assert!((1..10).contains(&stats.measurements.round_trips.count()), "{stats:?}");

    let unmeasured = start(None).await;
    check_echo(&mut open(unmeasured.addr).await, "here").await;
    let stats = unmeasured.handle.stats();
    assert_eq!(stats.measurements.received.count(), 0);
    assert_eq!((stats.hub.clients, stats.traffic.messages_received), (1, 1), "who is here counts");
    soon(unmeasured.handle.shutdown()).await;
    soon(unmeasured.task).await.unwrap().unwrap();
    #[cfg(feature = "metrics")]
    {
        // Traffic that was already reported is not reported again.
        server.handle.hub().report_traffic();
        soon(server.handle.shutdown()).await;
        soon(server.task).await.unwrap().unwrap();
        recorder::check(recorder);
    }
}

#[cfg(feature = "metrics")]
mod recorder {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    /// Records counters by name and labels, and the number of values in each histogram.
    #[derive(Default)]
    pub(super) struct Recorded(Mutex<BTreeMap<String, Arc<Count>>>);

    #[derive(Default)]
    struct Count(AtomicU64);

    impl metrics::CounterFn for Count {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, Ordering::Relaxed);
        }

        fn absolute(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    impl HistogramFn for Count {
        fn record(&self, value: f64) {
            assert!((0.0..10.0).contains(&value), "seconds: {value}");
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Recorded {
        fn count(&self, key: &Key) -> Arc<Count> {
            let mut name = key.name().to_owned();
            for label in key.labels() {
                name.extend([" ", label.key(), "=", label.value()]);
            }
            Arc::clone(self.0.lock().unwrap().entry(name).or_default())
        }
    }

    struct Handle(Arc<Recorded>);

    impl Recorder for Handle {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.0.count(key))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.0.count(key))
        }
    }

    pub(super) fn install() -> Arc<Recorded> {
        let recorded = Arc::<Recorded>::default();
        assert!(metrics::set_global_recorder(Handle(Arc::clone(&recorded))).is_ok(), "there is one");
        recorded
    }

    /// Checks the counts of the visit, and of one client that was notified of the shutdown or left before.
    #[allow(clippy::needless_pass_by_value, reason = "nobody looks at it again")]
    pub(super) fn check(recorded: Arc<Recorded>) {
        let counts = recorded.0.lock().unwrap();
        let value = |name: &str| counts.get(name).map_or(0, |count| count.0.load(Ordering::Relaxed));
        for (name, expected) in [
            ("longwire_connections_opened_total", 7),
            ("longwire_connections_closed_total code=1000", 2),
            ("longwire_connections_closed_total code=1013", 1),
            ("longwire_connections_closed_total code=4xxx", 1),
            ("longwire_connections_closed_total code=4001", 0),
            ("longwire_connections_refused_total", 1),
            ("longwire_slow_clients_closed_total", 1),
            ("longwire_broadcasts_dropped_total", 1),
            ("longwire_handshakes_rejected_total status=400", 1),
            ("longwire_handshakes_rejected_total status=426", 1),
            ("longwire_handshakes_rejected_total status=503", 1),
            ("longwire_handshake_duration_seconds", 7),
            ("longwire_messages_received_total", 5),
            ("longwire_messages_sent_total", 4),
        ] {
            assert_eq!(value(name), expected, "{name}: {:?}", counts.keys());
        }
        assert!(value("longwire_bytes_received_total") > 30 && value("longwire_bytes_sent_total") > 15);
    }
}
