//! Compressed messages and the end of a connection, and the decision whether to compress.

#![cfg(feature = "deflate")]

mod support;

use longwire_connection::deflate::{DeflateOptions, Pool, accept};
use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{
    Compress, Compression, Config, Error, Handover, Message, MessageKind, WebSocket, WriterOptions,
};
use support::{End, one_key, recv_all, run, settle, socket, text_frame, write};
use tokio::io::AsyncWriteExt;

/// Creates both ends of a connection that compresses messages of 100 bytes or more.
fn connected(capacity: usize, no_takeover: bool) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    let (client, server) = duplex(capacity);
    (
        WebSocket::new(
            client,
            Handover::client(one_key).compression(agreed(no_takeover)),
            &Config::default(),
        ),
        WebSocket::new(server, Handover::server().compression(agreed(no_takeover)), &Config::default()),
    )
}

fn agreed(no_takeover: bool) -> Compression {
    let mut options = DeflateOptions::default();
    options.threshold = 100;
    options.server_no_context_takeover = no_takeover;
    options.client_no_context_takeover = no_takeover;
    let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
    Compression::new(agreement, &options, &Pool::default())
}

fn text(n: usize) -> Message {
    format!("message {n} ").repeat(50).into()
}

/// Messages that have arrived are received, however the connection ends after them.
#[test]
fn compressed_messages_that_arrived_are_received_before_the_end() {
    for how in ["closed", "dropped", "aborted"] {
        run(how, async {
            let (mut client, mut server) = connected(1 << 20, false);
            for n in 0..200 {
                client.send(text(n)).await.unwrap();
            }
            let closing = tokio::spawn(async move {
                match how {
                    "closed" => client.close(1000, "").await.unwrap(),
                    "dropped" => drop(client),
                    _ => client.abort(),
                }
            });
            settle().await;
            let (received, end) = recv_all(&mut server).await;
            assert_eq!(received, (0..200).map(text).collect::<Vec<_>>(), "{how}");
            match end {
                Ok(()) => assert_ne!(how, "aborted"),
                Err(error) => assert!(matches!(error, Error::Lost) && how == "aborted", "{how}: {error}"),
            }
            drop(server);
            closing.await.unwrap();
        });
    }
}

/// A close frame is sent after the compressed messages queued before it, and does not overtake them.
#[test]
fn a_close_comes_behind_the_compressed_messages_before_it() {
    run("a close", async {
        // Little fits in flight, so most of it is still queued at the time of the close.
        let (mut client, mut server) = connected(10, false);
        let sender = client.sender();
        for n in 0..50 {
            sender.try_send(text(n)).unwrap();
        }
        sender.start_close(4000, "").unwrap();
        assert!(matches!(sender.try_send(text(50)), Err(Error::Closed)));
        let (closed, received) = tokio::join!(client.recv(), recv_all(&mut server));
        assert_eq!(closed.unwrap(), None);
        assert_eq!(received.0, (0..50).map(text).collect::<Vec<_>>());
        assert!(matches!(received.1, Err(Error::ClosedByPeer(frame)) if frame.code == 4000.into()));
    });
}

#[test]
fn the_threshold_and_the_caller_decide_what_is_compressed() {
    for no_takeover in [false, true] {
        run("what is compressed", async {
            let (mut client, mut server) = connected(1 << 20, no_takeover);
            for (len, compress, compressed) in [
                (99, Compress::Auto, false),
                (100, Compress::Auto, true),
                (5000, Compress::Auto, true),
                (5000, Compress::Never, false),
                (40, Compress::Always, true),
                (0, Compress::Auto, false),
            ] {
                let before = server.stats().sent_compressed.messages;
                let message = Message::from("x".repeat(len));
                server.send_with(message.clone(), compress).await.unwrap();
                let after = server.stats().sent_compressed.messages;
                assert_eq!(after - before, u64::from(compressed), "{len} bytes, {compress:?}");
                assert_eq!(client.recv().await.unwrap(), Some(message));
            }
            for (parts, compress, compressed) in [
                (["x".repeat(200), "y".repeat(10)], Compress::Auto, true),
                (["x".repeat(10), "y".repeat(200)], Compress::Auto, false),
                (["x".repeat(10), "y".repeat(10)], Compress::Always, true),
                (["x".repeat(200), "y".repeat(200)], Compress::Never, false),
                ([String::new(), String::new()], Compress::Always, true),
            ] {
                for (is_text, by_sender) in [(true, true), (true, false), (false, true), (false, false)] {
                    let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
                    let options = WriterOptions::new(kind).with_compress(compress);
                    let before = server.stats().sent_compressed.messages;
                    if by_sender {
                        let sender = server.sender();
                        let mut writer = sender.message_writer(options).await.unwrap();
                        for part in &parts {
                            writer.write(part.clone()).await.unwrap();
                        }
                        writer.finish().await.unwrap();
                    } else {
                        let mut writer = server.message_writer(options).await.unwrap();
                        for part in &parts {
                            writer.write(part.clone()).await.unwrap();
                        }
                        writer.finish().await.unwrap();
                    }
                    let after = server.stats().sent_compressed.messages;
                    let lengths = parts.each_ref().map(String::len);
                    assert_eq!(after - before, u64::from(compressed), "{lengths:?}, {compress:?}");
                    let received = client.recv().await.unwrap().unwrap();
                    assert_eq!(
                        (received.is_text(), received.as_bytes()),
                        (is_text, parts.concat().as_bytes())
                    );
                }
            }
            client.abort();
            server.abort();
        });
    }
}

#[test]
fn nothing_is_compressed_where_nothing_was_agreed() {
    for (end, other) in [(End::Client, End::Server), (End::Server, End::Client)] {
        run("no agreement", async {
            let (pipe, mut peer) = duplex(1 << 20);
            let tap = pipe.tap();
            let mut ws = socket(end, pipe, &Config::default());
            let long = "x".repeat(5000);
            ws.send_with(long.as_str(), Compress::Always).await.unwrap();
            let mut writer = ws
                .message_writer(WriterOptions::new(MessageKind::Text).with_compress(Compress::Always))
                .await
                .unwrap();
            writer.write("x").await.unwrap();
            writer.finish().await.unwrap();
            assert!(tap.written().starts_with(&text_frame(end, &long)));
            let frames = support::whole_frames(&tap.written(), end);
            assert_eq!(support::messages(&frames), [Message::from(long), "x".into()]);
            write(&mut peer, support::frame(other, 0xc1, b"")).await;
            peer.shutdown().await.unwrap();
            assert_eq!(ws.recv().await.unwrap_err().close_code(), Some(1002.into()), "{end:?}");
            ws.abort();
        });
    }
}
