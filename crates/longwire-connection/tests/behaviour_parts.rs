//! Messages in parts and byte streams: unfinished ones, and their effect on the other end.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Faults, Pipe, duplex, pair};
use longwire_connection::{Config, Error, Message, MessageKind, WebSocket, drive};
use support::{BINARY, CONTINUATION, End, TEXT, close_code, close_frame, frame, read_frames, run, settle};
use support::{messages, recv_all, socket, sockets, text_frame, whole_frames, write};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

const FIN: u8 = 0x80;

/// Parts that were sent cannot be taken back, and must not be mistaken for a whole message.
#[test]
fn a_writer_that_is_dropped_closes_with_1011() {
    for driven in [false, true] {
        run("a dropped writer", async {
            let (pipe, mut peer) = duplex(1024);
            let ws = socket(End::Server, pipe, &Config::default());
            let abandon = async |mut ws: WebSocket<Pipe>| {
                let mut writer = ws.message_writer(MessageKind::Text).await.unwrap();
                writer.write("half a ").await.unwrap();
                drop(writer);
                assert!(matches!(ws.send("more").await, Err(Error::Closed)));
                let (_, end) = recv_all(&mut ws).await;
                end
            };
            let abandoning =
                tokio::spawn(
                    async move { if driven { drive(ws, abandon).await } else { abandon(ws).await } },
                );
            let frames = read_frames(&mut peer, End::Server, 2).await;
            assert_eq!((frames[0].fin, frames[0].opcode), (false, TEXT));
            assert_eq!(messages(&frames), [], "driven: {driven}: no message is whole");
            assert_eq!(close_code(&frames), Some(1011), "driven: {driven}");
            write(&mut peer, close_frame(End::Client, 1011)).await;
            abandoning.await.unwrap().unwrap();
        });
    }
}

#[test]
fn other_messages_wait_for_the_end_of_one_in_parts() {
    run("a message in parts", async {
        let (pipe, mut peer) = duplex(1024);
        let mut ws = socket(End::Server, pipe, &Config::default());
        let sender = ws.sender();
        let mut writer = ws.message_writer(MessageKind::Binary).await.unwrap();
        writer.write("one ").await.unwrap();
        let waiting = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send("behind").await }
        });
        settle().await;
        assert!(!waiting.is_finished());
        assert!(matches!(sender.try_send("refused"), Err(Error::QueueFull)));
        sender.pong("between").expect("control frames may come between");
        writer.write("two").await.unwrap();
        writer.finish().await.unwrap();
        waiting.await.unwrap().unwrap();
        ws.abort();
        let frames = read_frames(&mut peer, End::Server, usize::MAX).await;
        assert_eq!(messages(&frames), [Message::binary("one two"), Message::text("behind")]);
        assert_eq!(frames[1].opcode, support::PONG);
    });
}

#[test]
fn text_in_parts_has_to_be_text() {
    run("text in parts", async {
        let (pipe, mut peer) = duplex(1024);
        let mut ws = socket(End::Server, pipe, &Config::default());
        let mut writer = ws.message_writer(MessageKind::Text).await.unwrap();
        writer.write(vec![0xe2, 0x82]).await.expect("a character may be cut");
        assert!(matches!(writer.write(vec![0xff]).await, Err(Error::NotText)));
        writer.write(vec![0xac]).await.expect("what was refused was not sent");
        writer.finish().await.unwrap();
        let mut writer = ws.message_writer(MessageKind::Text).await.unwrap();
        writer.write(vec![0xe2, 0x82]).await.unwrap();
        assert!(matches!(writer.finish().await, Err(Error::NotText)));
        let frames = read_frames(&mut peer, End::Server, 5).await;
        assert_eq!(messages(&frames), ["€".into()]);
        assert_eq!(close_code(&frames), Some(1011), "half a character is half a message");
        ws.abort();
    });
}

/// The rest may have arrived or not, and may be short or read directly into a message.
#[test]
fn behind_a_reader_that_is_dropped_the_next_message_is_whole() {
    for rest in [0, 10, 200_000] {
        for behind in ["recv", "recv_parts", "next_event"] {
            run(behind, async {
                let (pipe, mut peer) = duplex(4096);
                let mut ws = socket(End::Server, pipe, &Config::default());
                let talking = tokio::spawn(async move {
                    write(&mut peer, frame(End::Client, BINARY, &[1; 50])).await;
                    settle().await;
                    write(&mut peer, frame(End::Client, CONTINUATION, &vec![2; rest])).await;
                    write(&mut peer, frame(End::Client, FIN | CONTINUATION, &[3; 3])).await;
                    write(&mut peer, text_frame(End::Client, "the next")).await;
                    peer
                });
                let mut reader = ws.recv_parts().await.unwrap().unwrap();
                assert_eq!(reader.next().await.unwrap().unwrap()[0], 1);
                drop(reader);
                match behind {
                    "recv" => assert_eq!(ws.recv().await.unwrap(), Some("the next".into())),
                    "next_event" => {
                        let event = ws.next_event().await.unwrap().unwrap();
                        assert_eq!(event, longwire_connection::Incoming::Message("the next".into()));
                    }
                    _ => {
                        let mut reader = ws.recv_parts().await.unwrap().unwrap();
                        let mut text = String::new();
                        reader.read_to_string(&mut text).await.unwrap();
                        assert!(reader.is_text());
                        assert_eq!(text, "the next");
                    }
                }
                drop(talking.await.unwrap());
            });
        }
    }
}

#[test]
fn a_message_in_parts_that_is_cut_short_is_an_error() {
    run("half a message", async {
        let (pipe, mut peer) = duplex(4096);
        let mut ws = socket(End::Server, pipe, &Config::default());
        write(&mut peer, frame(End::Client, BINARY, &[1; 50])).await;
        drop(peer);
        let mut reader = ws.recv_parts().await.unwrap().unwrap();
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((bytes.len(), error.kind()), (50, std::io::ErrorKind::UnexpectedEof));
    });
}

/// Not even a clean close turns half a message into a whole one, however often the caller asks.
#[test]
fn a_close_in_the_middle_of_a_message_is_not_its_end() {
    for code in [1000, 1011] {
        run("a close inside a message", async {
            let (pipe, mut peer) = duplex(4096);
            let mut ws = socket(End::Server, pipe, &Config::default());
            write(&mut peer, [frame(End::Client, BINARY, b"half"), close_frame(End::Client, code)].concat())
                .await;
            let mut reader = ws.recv_parts().await.unwrap().unwrap();
            assert_eq!(reader.next().await.unwrap().unwrap(), "half");
            for _ in 0..3 {
                reader.next().await.expect_err("the message has no end");
            }
            drop(reader);
            assert!(matches!(ws.recv().await, Ok(None)));
        });
    }
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    (0..=250_u8).cycle().map(|byte| byte.wrapping_mul(31) ^ seed).take(len).collect()
}

/// Both directions at once, across a proxy, and each direction's end separately.
#[test]
fn bytes_are_copied_both_ways_through_byte_streams() {
    for bad_weather in [false, true] {
        run("copy_bidirectional", async {
            let weather = |seed| if bad_weather { Faults::new().random(seed) } else { Faults::new() };
            let (pipe, other) = duplex(3000);
            let pipes = (pipe.with_faults(weather(1)), other.with_faults(weather(2)));
            let (taps, config) = ((pipes.0.tap(), pipes.1.tap()), Config::default());
            let (client, server) = sockets(pipes, &config);
            let (mut near, mut near_proxy) = tokio::io::duplex(1000);
            let (mut far, mut far_proxy) = tokio::io::duplex(1000);
            let up = noise(150_000, 1);
            let down = noise(200_000, 2);
            let client_proxy = tokio::spawn(async move {
                copy_bidirectional(&mut near_proxy, &mut client.into_byte_stream()).await
            });
            let server_proxy = tokio::spawn(async move {
                copy_bidirectional(&mut server.into_byte_stream(), &mut far_proxy).await
            });
            let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
            let (mut near_read, mut near_write) = tokio::io::split(&mut near);
            let (mut far_read, mut far_write) = tokio::io::split(&mut far);
            let copied = async {
                tokio::try_join!(
                    near_write.write_all(&up),
                    far_write.write_all(&down),
                    near_read.read_exact(&mut got_down),
                    far_read.read_exact(&mut got_up),
                )
            };
            timeout(Duration::from_secs(60), copied).await.expect("nobody waits for another").unwrap();
            assert!(got_up == up && got_down == down, "the bytes are those that were sent");
            near.shutdown().await.unwrap();
            assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0, "the end arrives");
            far.shutdown().await.unwrap();
            assert_eq!(client_proxy.await.unwrap().unwrap(), (up.len() as u64, down.len() as u64));
            assert_eq!(server_proxy.await.unwrap().unwrap(), (up.len() as u64, down.len() as u64));
            settle().await;
            assert!(taps.0.is_dropped() && taps.1.is_dropped());
            assert_eq!(close_code(&whole_frames(&taps.0.written(), End::Client)), Some(1000));
            assert_eq!(close_code(&whole_frames(&taps.1.written(), End::Server)), Some(1000));
        });
    }
}

#[test]
fn a_byte_stream_joins_messages_and_tells_an_abnormal_end() {
    run("a byte stream", async {
        let (pipe, mut peer) = duplex(4096);
        let mut stream = socket(End::Server, pipe, &Config::default()).into_byte_stream();
        let said = [
            text_frame(End::Client, "a li"),
            text_frame(End::Client, ""),
            frame(End::Client, FIN | BINARY, b"ne\nand"),
        ];
        write(&mut peer, said.concat()).await;
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, "a line\n");
        write(&mut peer, close_frame(End::Client, 1011)).await;
        let mut rest = Vec::new();
        let error = stream.read_to_end(&mut rest).await.unwrap_err();
        assert_eq!((rest.as_slice(), error.kind()), (&b"and"[..], std::io::ErrorKind::BrokenPipe));
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        assert!(matches!(cause, Some(Error::ClosedByPeer(frame)) if frame.code == 1011.into()));
    });
    run("a byte stream that is cut", async {
        let (pipe, peer) = duplex(4096);
        let mut stream = socket(End::Server, pipe, &Config::default()).into_byte_stream();
        drop(peer);
        let error = stream.read(&mut [0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

/// Bytes of the stream's last message that were received but not read are not lost with the stream.
#[test]
fn a_byte_stream_gives_back_what_was_not_read() {
    run("into_inner", async {
        let (mut client, server) = pair(Config::default());
        client.send("one").await.unwrap();
        client.send("two").await.unwrap();
        let mut stream = server.into_byte_stream();
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        let (mut server, unread) = stream.into_inner();
        assert_eq!((&byte, &unread[..]), (b"o", &b"ne"[..]));
        assert_eq!(server.recv().await.unwrap(), Some("two".into()));
        server.abort();
        client.abort();
    });
}

#[test]
fn a_write_is_one_message_of_at_most_64_kib() {
    run("a long write", async {
        let (client, mut server) = pair(Config::default());
        let mut stream = client.into_byte_stream();
        let reading = tokio::spawn(async move {
            let sizes: Vec<_> =
                recv_all(&mut server).await.0.iter().map(|message| message.as_bytes().len()).collect();
            sizes
        });
        let long = noise(150_000, 3);
        assert_eq!(stream.write(&long).await.unwrap(), 65_536);
        assert_eq!(stream.write(&[]).await.unwrap(), 0, "nothing is no message");
        stream.write_all(&long[65_536..]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(reading.await.unwrap(), [65_536, 65_536, 150_000 - 2 * 65_536]);
    });
}

#[test]
fn a_dropped_byte_stream_is_closed_in_the_background() {
    run("a dropped byte stream", async {
        let (pipe, mut peer) = duplex(1024);
        let tap = pipe.tap();
        drop(socket(End::Server, pipe, &Config::default()).into_byte_stream());
        assert_eq!(close_code(&read_frames(&mut peer, End::Server, 1).await), Some(1000));
        write(&mut peer, close_frame(End::Client, 1000)).await;
        settle().await;
        assert!(tap.is_dropped());
    });
}
