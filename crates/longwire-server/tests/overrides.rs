//! The settings that `authorize` can change for one client: each affects only that client.

mod common;

use std::time::Duration;

use longwire_connection::{Keepalive, MemoryBudget, PreparedMessage, Rate, RateLimit};
use longwire_server::{Admission, HandlerResult, Request, Server, SlowPolicy, Socket, TrustedProxies};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use common::{
    LONG, REQUEST, Running, bind, exchange, expect, expect_long, frame, head, request_with, soon, start_with,
    tcp, text,
};

/// A change of one setting, and a conversation that shows its effect.
struct Row {
    setting: &'static str,
    change: fn(&mut Admission),
    /// The client's message, sent after some silence if the setting needs it.
    says: Vec<u8>,
    silent_for: Duration,
    /// The beginning of the answer for this client, and for all others.
    changed: &'static [u8],
    unchanged: &'static [u8],
}

fn row(
    setting: &'static str,
    says: impl AsRef<[u8]>,
    (changed, unchanged): (&'static [u8], &'static [u8]),
    change: fn(&mut Admission),
) -> Row {
    let says = says.as_ref().to_vec();
    Row { setting, change, says, silent_for: Duration::ZERO, changed, unchanged }
}

fn rows() -> Vec<Row> {
    let fragments = [frame(0x01, b"a"), frame(0x80, b"b")].concat();
    let silent_for = Duration::from_millis(300);
    let keepalive = row("keepalive", text("?"), (b"\x89", b"\x81"), |admission| {
        let interval = Duration::from_millis(10);
        admission.connection_config().keepalive = Some(Keepalive::default().with_interval(interval));
    });
    vec![
        Row { silent_for, ..keepalive },
        row("max_message", &fragments, (b"\x88\x02\x03\xf1", b"\x81\x02ab"), |admission| {
            admission.connection_config().limits.max_message = Some(1);
        }),
        row("max_frame", text("hello"), (b"\x88\x02\x03\xf1", b"\x81\x05hello"), |admission| {
            admission.connection_config().limits.max_frame = Some(4);
        }),
        row("max_fragments", &fragments, (b"\x88\x02\x03\xf0", b"\x81\x02ab"), |admission| {
            admission.connection_config().limits.max_fragments = Some(1);
        }),
        row(
            "rate_limit",
            text("a").repeat(2),
            (b"\x81\x01a\x88\x02\x03\xf0", b"\x81\x01a\x81\x01a"),
            |admission| {
                let messages = Some(Rate::per_second(1));
                admission.connection_config().rate_limit = Some(RateLimit::default().with_messages(messages));
            },
        ),
        row("memory", &fragments, (b"\x88\x02\x03\xf1", b"\x81\x02ab"), |admission| {
            admission.connection_config().memory = Some(MemoryBudget::new(0));
        }),
        row(
            "auto_pong",
            [frame(0x89, b""), text("a")].concat(),
            (b"\x81\x01a", b"\x8a\x00\x81\x01a"),
            |admission| admission.connection_config().auto_pong = false,
        ),
        row("send_queue", text("queue"), (b"\x81\x011\x88", b"\x81\x011\x81\x012\x88"), |admission| {
            admission.connection_config().send_queue = 1;
        }),
        row("queue", text("broadcast"), (b"\x88\x0a\x03\xf5", b"\x81\x012"), |admission| {
            admission.client_info().queue = Some(1);
        }),
        row(
            "slow_policy",
            text("broadcast"),
            (b"\x81\x013\x88\x02\x03\xe8", b"\x81\x012\x81\x013"),
            |admission| {
                admission.client_info().queue = Some(1);
                admission.client_info().slow_policy = Some(SlowPolicy::DropNewest);
            },
        ),
        row("max_rooms", text("join"), (b"\x88\x02\x03\xf3", b"\x88\x02\x03\xe8"), |admission| {
            admission.client_info().max_rooms = Some(0);
        }),
    ]
}

/// Obeys the commands it receives, and echoes anything else.
async fn obey(mut ws: Socket, _: Request) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        match message.as_text() {
            Some("queue") => {
                for number in ["1", "2"] {
                    drop(ws.sender().try_send(number));
                }
                return Ok(());
            }
            Some("broadcast") => {
                // The client does not read yet, so the first message fills its buffers.
                for number in [&*"1".repeat(LONG), "2"] {
                    let prepared = PreparedMessage::new(number);
                    ws.hub().broadcast_prepared(&prepared, |client| client.id() == ws.id());
                }
                drop(ws.send("3").await);
                return Ok(());
            }
            Some("join") => return Ok(ws.join("room").map(drop)?),
            Some("leave") => return Ok(()),
            _ => ws.send(message).await?,
        }
    }
    Ok(())
}

fn start(server: Server) -> Running {
    start_with(
        server.authorize(|mut admission| async move {
            let setting = admission.headers().get("x-setting").cloned();
            if let Some(row) =
                rows().into_iter().find(|row| setting.as_ref().is_some_and(|s| s == row.setting))
            {
                (row.change)(&mut admission);
            }
            if setting.as_ref().is_some_and(|setting| setting == "close_timeout") {
                admission.connection_config().close_timeout = Duration::from_millis(50);
            }
            #[cfg(feature = "deflate")]
            if setting.is_some_and(|setting| setting == "deflate") {
                admission.decline_deflate();
            }
            Ok(admission)
        }),
        obey,
    )
}

#[tokio::test]
async fn each_setting_of_a_connection_can_be_changed_for_one_client() {
    let server = start(bind().await.configure(|config| config.hub.queue = 2 * LONG));
    for row in rows() {
        for (setting, answer) in [(row.setting, row.changed), ("none", row.unchanged)] {
            let mut stream = tcp(server.addr).await;
            stream.write_all(request_with(&format!("X-Setting: {setting}")).as_bytes()).await.unwrap();
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
            sleep(row.silent_for).await;
            // In two pieces, because memory is counted between reads.
            let (first, second) = row.says.split_at(row.says.len() / 2);
            stream.write_all(first).await.unwrap();
            sleep(Duration::from_millis(20)).await;
            stream.write_all(second).await.unwrap();
            println!("{} for a client with {setting}", row.setting);
            if row.says == text("broadcast") {
                sleep(Duration::from_millis(100)).await;
                expect_long(&mut stream).await;
            }
            expect(&mut stream, answer).await;
        }
    }
}

#[tokio::test]
async fn the_time_for_the_closing_handshake_can_be_changed_for_one_client() {
    let server =
        start(bind().await.configure(|config| config.connection.close_timeout = Duration::from_secs(60)));
    let hub = server.handle.hub();
    for (setting, leaves) in [("close_timeout", true), ("none", false)] {
        let mut stream = tcp(server.addr).await;
        stream.write_all(request_with(&format!("X-Setting: {setting}")).as_bytes()).await.unwrap();
        head(&mut stream).await;
        stream.write_all(&text("leave")).await.unwrap();
        expect(&mut stream, b"\x88\x02\x03\xe8").await;
        // The client never answers the close frame.
        let limit = if leaves { Duration::from_secs(10) } else { Duration::from_secs(1) };
        assert_eq!(timeout(limit, hub.emptied()).await.is_ok(), leaves, "{setting}");
    }
}

#[cfg(feature = "deflate")]
#[tokio::test]
async fn compression_can_be_declined_for_one_client() {
    use longwire_connection::deflate::DeflateOptions;
    let server = bind().await.configure(|config| config.handshake.deflate = Some(DeflateOptions::default()));
    let server = start(server);
    for (setting, agreed) in [("none", true), ("deflate", false)] {
        let mut stream = tcp(server.addr).await;
        let fields = format!("Sec-WebSocket-Extensions: permessage-deflate\r\nX-Setting: {setting}");
        stream.write_all(request_with(&fields).as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert_eq!(head.contains("permessage-deflate"), agreed, "{setting}: {head}");
        // Without the extension, the bit that marks compression is an error.
        stream.write_all(&frame(0xc1, b"\x00")).await.unwrap();
        expect(&mut stream, if agreed { b"\x81\x00" } else { b"\x88\x02" }).await;
    }
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_count_for_themselves() {
    let server = start(bind().await.configure(|config| {
        config.hub.max_clients_per_address = Some(1);
        config.trusted_proxies = TrustedProxies::networks(["127.0.0.1"]).unwrap();
    }));
    let request = |from: &str| request_with(&format!("X-Forwarded-For: {from}"));
    let mut clients = Vec::new();
    for from in ["192.0.2.1", "192.0.2.2", "127.0.0.1"] {
        let mut stream = tcp(server.addr).await;
        stream.write_all(request(from).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "), "{from}");
        stream.write_all(&text("a")).await.unwrap();
        soon(expect(&mut stream, b"\x81\x01a")).await;
        clients.push(stream);
    }
    let known = server.handle.hub().clients();
    let known: Vec<_> = known.iter().filter_map(longwire_server::ClientHandle::peer_addr).collect();
    assert_eq!(known[..2], ["192.0.2.1:0".parse().unwrap(), "192.0.2.2:0".parse().unwrap()]);
    assert!(known[2].ip().is_loopback() && known[2].port() > 0, "a peer's port is known: {known:?}");
    for request in [request("192.0.2.1"), REQUEST.to_owned()] {
        let answer = exchange(server.addr, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "one more from there: {answer}");
    }
}
