//! Turns: one connection does a limited amount of work before others get their turn, and it continues afterward.

mod support;

use std::time::Duration;

use longwire_connection::testing::duplex;
use longwire_connection::{Config, Error, Keepalive};
use support::{End, frame, run, socket, write};
use tokio::time::{Instant, sleep};

/// More messages than a turn handles, and few enough to be read at once.
const MESSAGES: usize = 1000;

/// A turn ends after a deadline that only moves, because the peer was heard. The task continues with the bytes that
/// were read, and does not sleep until the next deadline.
#[test]
fn a_turn_that_ends_at_a_deadline_goes_on_with_what_was_read() {
    for receiver in [false, true] {
        run("a turn and a deadline", async move {
            let keepalive = Keepalive::default()
                .with_interval(Duration::from_secs(30))
                .with_timeout(Duration::from_secs(20));
            let config = Config::default().with_keepalive(keepalive);
            let (pipe, mut peer) = duplex(1 << 16);
            let mut ws = socket(End::Server, pipe, &config);
            write(&mut peer, frame(End::Client, 0x82, b"x").repeat(MESSAGES)).await;
            let receiving = tokio::spawn(async move {
                let mut start = Instant::now();
                let count = async |number: usize, start: &mut Instant| {
                    if number == 0 {
                        // The first deadline passes while no call receives.
                        sleep(Duration::from_secs(31)).await;
                        *start = Instant::now();
                    }
                };
                if receiver {
                    let (_sender, mut receiver) = ws.split();
                    for number in 0..MESSAGES {
                        receiver.recv().await?.unwrap();
                        count(number, &mut start).await;
                    }
                    receiver.abort();
                } else {
                    for number in 0..MESSAGES {
                        ws.next_event().await?.unwrap();
                        count(number, &mut start).await;
                    }
                    ws.abort();
                }
                Ok::<_, Error>(start.elapsed())
            });
            let took = receiving.await.unwrap().unwrap();
            assert_eq!(took, Duration::ZERO, "it slept on bytes that were read");
            drop(peer);
        });
    }
}

/// Messages that are short on the wire and long when decompressed: one ends a turn, so an honest connection on the
/// same thread gets its own in between.
#[cfg(feature = "deflate")]
#[test]
fn an_honest_connection_has_its_turn_between_long_messages() {
    use std::sync::{Arc, Mutex};

    use longwire_connection::deflate::{DeflateOptions, Pool, accept};
    use longwire_connection::{Compression, Handover, WebSocket};
    use tokio::io::AsyncWriteExt;

    const LONG: usize = 1 << 20;
    const LONG_MESSAGES: usize = 40;
    run("long messages and an honest connection", async {
        let options = DeflateOptions::default();
        let agreement = accept([[]], &options).unwrap();
        let pool = Pool::default();
        let compression = || Compression::new(agreement, &options, &pool);
        // The events of the thread: the messages that each server receives.
        let events = Arc::new(Mutex::new(Vec::new()));

        let (mut attacker, server) = duplex(1 << 20);
        let mut ws =
            WebSocket::new(server, Handover::server().compression(compression()), &Config::default());
        let flooded = tokio::spawn({
            let events = Arc::clone(&events);
            async move {
                while let Ok(Some(message)) = ws.recv().await {
                    assert_eq!(message.len(), LONG);
                    events.lock().unwrap().push("long");
                }
            }
        });

        let (client, server) = duplex(1 << 16);
        let mut ws = socket(End::Server, server, &Config::default());
        let echoing = tokio::spawn({
            let events = Arc::clone(&events);
            async move {
                while let Some(message) = ws.recv().await? {
                    events.lock().unwrap().push("echo");
                    ws.send(message).await?;
                }
                Ok::<_, Error>(())
            }
        });
        let mut client = socket(End::Client, client, &Config::default());
        client.send("there?").await.unwrap();
        client.recv().await.unwrap().unwrap();

        // All of them are there at once.
        let compressed = compressed(LONG);
        assert!(compressed.len() < LONG / 500, "{}", compressed.len());
        attacker.write_all(&frame(End::Client, 0xc2, &compressed).repeat(LONG_MESSAGES)).await.unwrap();
        let asking = tokio::spawn({
            let events = Arc::clone(&events);
            async move {
                while events.lock().unwrap().iter().filter(|event| **event == "long").count() < LONG_MESSAGES
                {
                    client.send("there?").await.unwrap();
                    client.recv().await.unwrap().unwrap();
                }
                client.close(1000, "").await.unwrap();
            }
        });
        asking.await.unwrap();
        echoing.await.unwrap().unwrap();
        drop(attacker);
        flooded.await.unwrap();
        let events = events.lock().unwrap();
        let first = events.iter().position(|event| *event == "long").unwrap();
        let last = events.iter().rposition(|event| *event == "long").unwrap();
        let between = events[first..last].split(|event| *event == "echo").map(<[_]>::len).max().unwrap();
        // One task's turn takes the message there, and another task's turn takes it back.
        assert!(between <= 2, "{between} long messages between two echoes");
    });
}

/// Data that arrives at a connection that no task holds is decompressed only to find the peer's close frame. This
/// must not happen under the lock, because threads that broadcast wait for it. A debug assertion in the library
/// checks this.
#[cfg(feature = "deflate")]
#[test]
fn what_a_leaving_connection_discards_is_decoded_without_the_lock() {
    use longwire_connection::deflate::{DeflateOptions, Pool, accept};
    use longwire_connection::{Compression, Handover, WebSocket, drive};

    for driven in [false, true] {
        run("a leaving connection", async move {
            let options = DeflateOptions::default();
            let agreement = accept([[]], &options).unwrap();
            let compression = Compression::new(agreement, &options, &Pool::default());
            let (mut peer, server) = duplex(1 << 20);
            let ws = WebSocket::new(server, Handover::server().compression(compression), &Config::default());
            let sender = ws.sender();
            let leaving = if driven {
                tokio::spawn(drive(ws, async |ws| {
                    drop(ws);
                    Ok::<_, Error>(())
                }))
            } else {
                drop(ws);
                tokio::spawn(async { Ok(()) })
            };
            let messages = frame(End::Client, 0xc2, &compressed(1 << 20)).repeat(5);
            write(&mut peer, [messages, support::close_frame(End::Client, 1000)].concat()).await;
            let start = Instant::now();
            let frames = support::whole_frames(&support::read_to_end(&mut peer).await, End::Server);
            assert_eq!(support::close_code(&frames), Some(1000));
            assert_eq!(start.elapsed(), Duration::ZERO, "all of it was decoded, and the close frame found");
            leaving.await.unwrap().unwrap();
            assert!(sender.is_closed());
        });
    }
}

/// Compresses a message of zeros like a client without context takeover.
#[cfg(feature = "deflate")]
fn compressed(len: usize) -> Vec<u8> {
    use longwire_connection::deflate::{Deflater, Direction, Level, Pool, WindowBits};

    let direction = Direction { window_bits: WindowBits::MAX, context_takeover: false };
    let mut deflater = Deflater::new(&Pool::default(), direction, Level::SMALLEST).unwrap();
    let mut out = Vec::new();
    deflater.compress(&vec![0; len], &mut out);
    out
}
