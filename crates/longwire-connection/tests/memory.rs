//! The memory budget for messages that have begun to arrive.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{
    CloseCode, Config, Error, Handover, MemoryBudget, MessageKind, ProtocolError, WebSocket, drive,
};
use support::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Creates a server's connection, and the raw end of its client.
fn connected(budget: &MemoryBudget) -> (Pipe, WebSocket<Pipe>) {
    let (client, server) = duplex(4 << 20);
    let config = Config::default().with_memory(budget.clone());
    (client, WebSocket::new(server, Handover::server(), &config))
}

/// Returns the header of a masked binary message of a megabyte, in one frame or as the first of several.
fn header(fin: bool) -> Vec<u8> {
    let first = if fin { 0x82 } else { 0x02 };
    wire_model::header(first, 1 << 20, Some(wire_model::ZERO))
}

/// Lets a connection read the bytes that are there.
async fn read(ws: &mut WebSocket<Pipe>) -> Option<Error> {
    match timeout(Duration::from_millis(10), ws.recv()).await {
        Err(_) => None,
        Ok(received) => Some(received.expect_err("no message is complete")),
    }
}

#[test]
fn unfinished_messages_are_bounded_together() {
    run("memory", async {
        let budget = MemoryBudget::new(3 << 19);
        let mut connections: Vec<_> = (0..4).map(|_| connected(&budget)).collect();
        let mut before = 0;
        for (number, (client, ws)) in connections.iter_mut().enumerate() {
            // The first as large as it may be, two below their share and one above it, with the memory reserved for
            // bytes to come.
            let len = [900_000, 100, 30_000, 400_000][number];
            client.write_all(&header(true)).await.unwrap();
            client.write_all(&vec![0; len]).await.unwrap();
            let ended = read(ws).await;
            if number < 3 {
                assert!(ended.is_none(), "{number}: {ended:?}");
                let held = budget.used() - before;
                assert!((len..=len * 8 + 65_536).contains(&held) && held <= 1 << 20, "{number}: {held}");
                before = budget.used();
                continue;
            }
            assert!(matches!(ended, Some(Error::OutOfMemory)), "{ended:?}");
            assert_eq!(ended.unwrap().close_code(), Some(CloseCode::TRY_AGAIN_LATER));
            let mut frame = [0; 4];
            client.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame, [0x88, 2, 0x03, 0xf5], "1013");
            assert_eq!(budget.used(), before, "it has given back what it held");
        }
        // Connections that end make room: the first completes its message, and its memory is then free.
        connections.truncate(1);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((900_000..=1 << 20).contains(&budget.used()), "{}", budget.used());
        let (client, ws) = &mut connections[0];
        client.write_all(&vec![0; (1 << 20) - 900_000]).await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap().len(), 1 << 20);
        assert!(read(ws).await.is_none());
        assert_eq!(budget.used(), 0);
    });
}

/// After only the header of a message has arrived, memory for the first bytes is reserved.
#[test]
fn a_header_alone_counts_as_well() {
    run("memory of headers", async {
        let budget = MemoryBudget::new(1 << 20);
        let mut connections: Vec<_> = (0..100).map(|_| connected(&budget)).collect();
        let mut ended = 0;
        for (client, ws) in &mut connections {
            client.write_all(&header(true)).await.unwrap();
            match read(ws).await {
                None => assert!(budget.used() >= 64 << 10),
                Some(error) => {
                    assert!(matches!(error, Error::OutOfMemory), "{error:?}");
                    ended += 1;
                }
            }
        }
        assert!(ended >= 80, "{ended} ended, {} bytes are held", budget.used());
    });
}

#[test]
fn fragments_count_as_well() {
    run("memory of fragments", async {
        let budget = MemoryBudget::new(3 << 20);
        let (mut client, mut ws) = connected(&budget);
        client.write_all(&header(false)).await.unwrap();
        client.write_all(&vec![0; 1 << 20]).await.unwrap();
        assert!(read(&mut ws).await.is_none());
        // Twice as much is reserved when the buffer is full, because more fragments may follow.
        let mut more = header(false);
        more[0] = 0x00;
        client.write_all(&more).await.unwrap();
        client.write_all(&vec![0; 600_000]).await.unwrap();
        assert!(read(&mut ws).await.is_none());
        assert!((1_600_000..=3 << 20).contains(&budget.used()), "{}", budget.used());
        client.write_all(&vec![0; (1 << 20) - 600_000]).await.unwrap();
        client.write_all(&more).await.unwrap();
        client.write_all(&vec![0; 1 << 20]).await.unwrap();
        // Twice as much again is more than the whole budget.
        assert_too_long(read(&mut ws).await, 3 << 20, &mut client).await;
    });
}

/// A peer that sends a message larger than the whole budget must not try again.
#[test]
fn a_message_larger_than_the_budget_is_too_long() {
    run("memory of one message", async {
        let budget = MemoryBudget::new(1 << 19);
        let (mut client, mut ws) = connected(&budget);
        client.write_all(&header(true)).await.unwrap();
        client.write_all(&vec![0; 600_000]).await.unwrap();
        assert_too_long(read(&mut ws).await, 1 << 19, &mut client).await;
        assert_eq!(budget.used(), 0, "it has given back what it held");
    });
}

/// Checks that a connection failed with code 1009 because of a budget of `limit` bytes.
async fn assert_too_long(ended: Option<Error>, limit: usize, client: &mut Pipe) {
    let Some(Error::Protocol(ProtocolError::MessageTooLong { len, max })) = ended else {
        panic!("{ended:?}")
    };
    assert!(max == limit && len > max as u64, "{len}, {max}");
    let mut frame = [0; 4];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, [0x88, 2, 0x03, 0xf1], "1009");
}

// Connections that are chosen to be closed.

/// Makes a connection hold most of the budget, and waits until it does.
async fn hold_most(budget: &MemoryBudget, client: &mut Pipe) {
    client.write_all(&header(false)).await.unwrap();
    client.write_all(&vec![0; 700_000]).await.unwrap();
    for _ in 0..1000 {
        if budget.used() >= 700_000 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} of 700 000 bytes are held", budget.used());
}

/// Makes other connections hold so much that the largest must be closed, without one of them exceeding its share.
async fn grow_others(budget: &MemoryBudget) -> Vec<(Pipe, WebSocket<Pipe>)> {
    let mut others = Vec::new();
    while budget.used() <= budget.limit() && others.len() < 100 {
        let (mut client, mut ws) = connected(budget);
        client.write_all(&header(true)).await.unwrap();
        client.write_all(&vec![0; 20_000]).await.unwrap();
        let before = budget.used();
        assert!(read(&mut ws).await.is_none(), "less than its share");
        others.push((client, ws));
        if budget.used() < before {
            break;
        }
    }
    others
}

/// Whatever the largest connection's task waits for, the peer is notified at once, although it sends no byte
/// meanwhile.
#[test]
fn who_is_shed_is_told_at_once() {
    for (case, driven) in [("receives", false), ("waits for something else", true), ("sends", true)] {
        run(case, async move {
            let budget = MemoryBudget::new(1 << 20);
            let (mut client, server) = duplex(4 << 20);
            let tap = server.tap();
            let config = Config::default().with_memory(budget.clone()).with_send_queue(100);
            let ws = WebSocket::new(server, Handover::server(), &config);
            let sending = case == "sends";
            if sending {
                tap.stall_writes();
            }
            let serving = tokio::spawn(async move {
                if !driven {
                    let mut ws = ws;
                    return ws.recv().await.map(drop);
                }
                drive(ws, async move |mut ws| {
                    // The part of the message that has arrived is kept.
                    let received = timeout(Duration::from_millis(10), ws.recv()).await;
                    assert!(received.is_err(), "{received:?}");
                    if sending {
                        loop {
                            ws.send(vec![7; 60]).await?;
                        }
                    }
                    tokio::time::sleep(Duration::from_secs(100)).await;
                    ws.recv().await.map(drop)
                })
                .await
            });
            hold_most(&budget, &mut client).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let others = grow_others(&budget).await;
            // If the handler sends, the peer begins to read; it still sends nothing.
            tap.resume();
            let start = tokio::time::Instant::now();
            let mut bytes = Vec::new();
            let told = timeout(Duration::from_millis(100), async {
                while !bytes.ends_with(&[0x88, 2, 0x03, 0xf5]) {
                    assert!(client.read_buf(&mut bytes).await.unwrap() > 0, "the end without a close frame");
                }
            });
            told.await.unwrap_or_else(|_| panic!("{case}: not told, {} bytes came", bytes.len()));
            assert_eq!(start.elapsed(), Duration::ZERO, "{case}");
            let (frames, left) = support::check_wire(&bytes, support::End::Server);
            assert_eq!((support::close_code(&frames), left), (Some(1013), 0), "{case}");
            drop(client);
            let ended = serving.await.unwrap();
            let expected = if sending { "the connection is closed" } else { "the memory budget has no room" };
            assert!(ended.as_ref().unwrap_err().to_string().starts_with(expected), "{case}: {ended:?}");
            drop(others);
            // The received parts are kept until the closing handshakes are over.
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(budget.used(), 0, "{case}");
        });
    }
}

// Bytes that were read and not decoded.

/// Runs a server's connection whose handler echoes, or answers with much more, and a client that sends and stops
/// reading.
async fn never_reads(message: usize, answer: usize, sends: usize, gathered: bool) -> (u64, usize) {
    let config = Config::default();
    let (client, server) = duplex(1 << 16);
    let tap = server.tap();
    let counted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = std::sync::Arc::clone(&counted);
    let handler = async move |mut ws: WebSocket<Pipe>| {
        while let Some(received) = ws.recv().await? {
            counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            ws.send(if answer == message { received } else { vec![7; answer].into() }).await?;
        }
        Ok::<_, Error>(())
    };
    let ws = WebSocket::new(server, Handover::server(), &config);
    let handling = if gathered {
        tokio::spawn(drive(ws, handler))
    } else {
        tokio::spawn(async move { handler(ws).await })
    };
    let frame = support::frame(support::End::Client, 0x82, &vec![7; message]);
    // The client reads at first, because a connection that keeps up reads much at once. Then it only sends.
    let (mut reading, mut writing) = tokio::io::split(client);
    let first = tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 18];
        reading.read_exact(&mut bytes).await.unwrap();
        reading
    });
    let sent = timeout(Duration::from_secs(1), async {
        for _ in 0..sends {
            writing.write_all(&frame).await.unwrap();
        }
    });
    assert!(sent.await.is_err(), "it is held back");
    let reading = first.await.unwrap();
    let taken = counted.load(std::sync::atomic::Ordering::Relaxed) * frame.len();
    let read = tap.counts().bytes_read;
    handling.abort();
    drop((reading, writing));
    (read, taken)
}

/// A handler that waits in `send` keeps little of what was read: the rest waits in TCP, at the peer's cost.
#[test]
fn little_is_left_undecoded_while_a_send_waits() {
    for gathered in [false, true] {
        for (message, answer) in
            [(10, 10), (100, 100), (1000, 1000), (20_000, 20_000), (10, 10_000), (1000, 60_000)]
        {
            run("a client that never reads", async move {
                let sends = (16 << 20) / message;
                let (read, taken) = never_reads(message, answer, sends, gathered).await;
                let left = usize::try_from(read).unwrap() - taken;
                assert!(left <= 16 * 1024, "{left} bytes for messages of {message}, answers of {answer}");
            });
        }
    }
}

/// If the application keeps up, much is read at once: a system call for each 16 KiB would cost more than the bytes.
#[test]
fn who_keeps_up_gets_much_at_once() {
    for (echoes, message) in
        [(false, 1000), (true, 1000), (true, 16 * 1024), (true, 20_000), (true, 30_000), (true, 64 * 1024)]
    {
        run("a connection that keeps up", async move {
            let (client, server) = duplex(1 << 20);
            let tap = server.tap();
            let ws = WebSocket::new(server, Handover::server(), &Config::default());
            let serving = tokio::spawn(drive(ws, async move |mut ws| {
                while let Some(received) = ws.recv().await? {
                    if echoes {
                        ws.send(received).await?;
                    }
                }
                Ok::<_, Error>(())
            }));
            let (mut reading, mut writing) = tokio::io::split(client);
            let reading = tokio::spawn(async move { reading.read_to_end(&mut Vec::new()).await });
            let frame = support::frame(support::End::Client, 0x82, &vec![7; message]);
            writing.write_all(&frame.repeat((4 << 20) / message)).await.unwrap();
            writing.write_all(&support::close_frame(support::End::Client, 1000)).await.unwrap();
            reading.await.unwrap().unwrap();
            serving.await.unwrap().unwrap();
            let counts = tap.counts();
            let each = counts.bytes_read / counts.reads;
            assert!(each > 80 * 1024, "{each} bytes a read, echoes of {message}: {echoes}");
            if echoes {
                let each = counts.bytes_written / counts.writes;
                assert!(each > 64 * 1024, "{each} bytes a write, echoes of {message}");
            }
        });
    }
}

// Compressors.

#[cfg(feature = "deflate")]
mod compressors {
    use longwire_connection::deflate::{DeflateOptions, Deflater, Pool, PoolOptions, accept};
    use longwire_connection::testing::Tap;
    use longwire_connection::{Compression, Message, Sender};

    use super::*;
    use crate::support::one_key;

    const COMPRESSOR: usize = Deflater::CONTEXT_MEMORY;

    /// A pool that keeps every compressor ever created, so that they can be counted, and lets every connection hold
    /// one.
    fn pool() -> Pool {
        Pool::new(PoolOptions::default().with_idle_compressors(1000).with_kept_compressors(1000))
    }

    /// A pair that compresses with context takeover. The server uses `pool` and counts in `budget`.
    fn pair(pool: &Pool, budget: &MemoryBudget) -> (WebSocket<Pipe>, Tap, WebSocket<Pipe>) {
        let options = DeflateOptions::default();
        let agreement = accept([[]], &options).unwrap();
        let (client, server) = duplex(1 << 16);
        let tap = server.tap();
        let idle = Duration::from_secs(1000);
        let config = Config::default().with_deflate_idle(idle);
        let counted = config.clone().with_memory(budget.clone()).with_send_queue(100);
        let own = Compression::new(agreement, &options, pool);
        let peers = Compression::new(agreement, &options, &Pool::default());
        let client = WebSocket::new(client, Handover::client(one_key).compression(peers), &config);
        (client, tap, WebSocket::new(server, Handover::server().compression(own), &counted))
    }

    fn text(number: usize) -> String {
        let words: Vec<_> = (0..400).map(|word| (word * (number + 1)).to_string()).collect();
        words.join(" ")
    }

    /// Lets every task run, and some time pass that is shorter than any limit.
    async fn settle() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    fn bound(budget: &MemoryBudget) -> usize {
        budget.limit() + budget.limit() / 8
    }

    /// The compressors of many connections whose peers read nothing are counted, and given back when there are too
    /// many. No connection is closed, and their later messages are the same as with a compressor that was kept.
    #[test]
    fn compressors_of_blocked_connections_are_bounded() {
        for driven in [false, true] {
            run("compressors", async move {
                let (pool, budget) = (pool(), MemoryBudget::new(4 * COMPRESSOR));
                let mut connections = Vec::new();
                for number in 0..20 {
                    let (client, tap, ws) = pair(&pool, &budget);
                    let handler = async move |mut ws: WebSocket<Pipe>| {
                        for message in 0..5 {
                            ws.send(text(number + message)).await?;
                        }
                        ws.recv().await.map(drop)
                    };
                    let sending = if driven {
                        tokio::spawn(drive(ws, handler))
                    } else {
                        tokio::spawn(async move { handler(ws).await })
                    };
                    tap.stall_writes();
                    settle().await;
                    assert!(budget.used() <= bound(&budget), "{number}: {}", budget.used());
                    assert!(budget.used() >= COMPRESSOR * (number + 1).min(4), "{number}: {}", budget.used());
                    assert!(!sending.is_finished(), "it is blocked");
                    connections.push((client, tap, sending));
                }
                let made = pool.idle_compressors() + budget.used() / COMPRESSOR;
                assert!(made <= 5, "{made} compressors were there at once");
                for (number, (client, tap, sending)) in connections.iter_mut().enumerate() {
                    tap.resume();
                    for message in 0..5 {
                        let received = client.recv().await.unwrap().unwrap();
                        assert_eq!(received, Message::text(text(number + message)), "{number}, {message}");
                        assert!(budget.used() <= bound(&budget), "{}", budget.used());
                    }
                    client.close(1000, "").await.unwrap();
                    sending.await.unwrap().unwrap();
                }
                drop(connections);
                settle().await;
                assert_eq!(budget.used(), 0, "all are given back");
                let made = pool.idle_compressors();
                assert!(made <= 5, "{made} compressors were there at once");
            });
        }
    }

    /// A compressor in the middle of a message cannot be given back, so connections must be closed.
    #[test]
    fn compressors_in_use_are_bounded_as_well() {
        run("compressors in use", async {
            let (pool, budget) = (pool(), MemoryBudget::new(4 * COMPRESSOR));
            let mut connections = Vec::new();
            let mut shed = 0;
            for number in 0..8 {
                let (mut client, _tap, ws) = pair(&pool, &budget);
                let (sender, mut receiver): (Sender, _) = ws.split();
                let receiving = tokio::spawn(async move { receiver.recv().await });
                let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
                writer.write(text(number)).await.unwrap();
                settle().await;
                assert!(budget.used() <= bound(&budget), "{number}: {}", budget.used());
                if sender.is_closed() {
                    shed += 1;
                    let ended = client.recv().await.unwrap_err();
                    assert_eq!(ended.close_code(), Some(CloseCode::TRY_AGAIN_LATER));
                    let ended = receiving.await.unwrap();
                    assert!(matches!(ended, Err(Error::OutOfMemory)), "{ended:?}");
                } else {
                    connections.push((client, sender, writer, receiving));
                }
            }
            assert_eq!((connections.len(), shed), (4, 4));
            for (number, (mut client, sender, writer, receiving)) in connections.into_iter().enumerate() {
                writer.finish().await.unwrap();
                assert_eq!(client.recv().await.unwrap(), Some(Message::text(text(number))));
                sender.start_close(1000, "").unwrap();
                assert_eq!(client.recv().await.unwrap(), None);
                drop(client);
                receiving.await.unwrap().unwrap();
            }
            settle().await;
            assert_eq!(budget.used(), 0);
        });
    }

    /// A message that arrives takes the memory of compressors. No connection is closed for it.
    #[test]
    fn a_message_that_arrives_takes_the_place_of_compressors() {
        run("a message and compressors", async {
            let (pool, budget) = (pool(), MemoryBudget::new(1 << 20));
            let mut senders = Vec::new();
            for number in 0..2 {
                let (mut client, _tap, mut ws) = pair(&pool, &budget);
                ws.send(text(number)).await.unwrap();
                client.recv().await.unwrap().unwrap();
                senders.push((client, ws));
            }
            assert_eq!(budget.used(), 2 * COMPRESSOR);
            let (mut client, mut ws) = connected(&budget);
            client.write_all(&header(true)).await.unwrap();
            client.write_all(&vec![0; 900_000]).await.unwrap();
            assert!(read(&mut ws).await.is_none());
            assert!((900_000..=1 << 20).contains(&budget.used()), "{}", budget.used());
            assert_eq!(pool.idle_compressors(), 2, "given back");
            for (number, (client, ws)) in senders.iter_mut().enumerate() {
                ws.send(text(number)).await.unwrap();
                assert_eq!(client.recv().await.unwrap(), Some(Message::text(text(number))));
                assert!(budget.used() <= bound(&budget), "{}", budget.used());
            }
            client.write_all(&vec![0; (1 << 20) - 900_000]).await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap().len(), 1 << 20);
        });
    }
}
