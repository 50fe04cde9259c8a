//! Messages in parts on a split connection: written by any task, read by the one that receives.

mod support;

use longwire_connection::testing::{duplex, pair};
use longwire_connection::{Config, Error, Message, MessageKind, WriterOptions};
use support::{
    BINARY, CONTINUATION, End, PONG, TEXT, close_code, close_frame, messages, read_frames, run, settle,
};
use support::{recv_all, socket, write};
use tokio::io::AsyncWriteExt;

#[test]
fn parts_go_both_ways_at_once_through_a_split_connection() {
    run("a proxy", async {
        let (client, server) = pair(Config::default().with_send_queue(1000));
        let (sender, mut receiver) = client.split();
        // Each part is echoed before the message has ended.
        let (back, mut there) = server.split();
        let echoing = tokio::spawn(async move {
            while let Some(mut reader) = there.recv_parts().await? {
                let mut writer = back.message_writer(reader.kind()).await?;
                while let Some(part) = reader.next().await? {
                    writer.write(part).await?;
                }
                writer.finish().await?;
            }
            Ok::<_, Error>(())
        });
        let sending = tokio::spawn(async move {
            for len in [0, 1, 1000, 100_000] {
                let mut writer = sender.message_writer(MessageKind::Text).await?;
                for part in "€".repeat(len).as_bytes().chunks(777) {
                    writer.write(part.to_vec()).await?;
                }
                writer.finish().await?;
                let mut writer = sender.message_writer(MessageKind::Binary).await?;
                writer.write_all(&vec![7; len]).await.unwrap();
                writer.shutdown().await.unwrap();
            }
            sender.start_close(1000, "")
        });
        for len in [0, 1, 1000, 100_000] {
            assert_eq!(receiver.recv().await.unwrap(), Some("€".repeat(len).into()), "{len}");
            assert_eq!(receiver.recv().await.unwrap(), Some(Message::binary(vec![7; len])), "{len}");
        }
        assert_eq!(receiver.recv().await.unwrap(), None);
        sending.await.unwrap().unwrap();
        drop(receiver);
        echoing.await.unwrap().unwrap();
    });
}

#[test]
fn messages_in_parts_of_several_senders_are_not_mixed() {
    run("two writers", async {
        let (pipe, mut peer) = duplex(1024);
        let mut ws = socket(End::Server, pipe, &Config::default());
        let sender = ws.sender();
        let mut first = sender.message_writer(MessageKind::Text).await.unwrap();
        first.write("one ").await.unwrap();
        let second = tokio::spawn({
            let sender = sender.clone();
            async move {
                let mut second = sender.message_writer(MessageKind::Binary).await?;
                second.write("three ").await?;
                second.write("four").await?;
                second.finish().await
            }
        });
        settle().await;
        assert!(!second.is_finished(), "it waits for the end of the first");
        assert!(matches!(sender.try_send("refused"), Err(Error::QueueFull)));
        sender.pong("between").unwrap();
        first.write("two").await.unwrap();
        first.finish().await.unwrap();
        second.await.unwrap().unwrap();
        ws.send("last").await.unwrap();
        ws.abort();
        let frames = read_frames(&mut peer, End::Server, usize::MAX).await;
        let said = [Message::text("one two"), Message::binary("three four"), Message::text("last")];
        assert_eq!(messages(&frames), said);
        let opcodes: Vec<_> = frames.iter().map(|frame| frame.opcode).collect();
        let rest = [CONTINUATION, CONTINUATION];
        assert_eq!(opcodes, [&[TEXT, PONG][..], &rest, &[BINARY], &rest, &[TEXT]].concat());
    });
}

#[test]
fn a_writer_that_must_not_wait_is_refused_instead() {
    let options = WriterOptions::new(MessageKind::Text).with_wait(false);
    for obstacle in ["a message in parts", "a full queue"] {
        run(obstacle, async {
            let (pipe, mut peer) = duplex(16);
            let mut config = Config::default();
            config.send_queue = 100;
            let mut ws = socket(End::Server, pipe, &config);
            let sender = ws.sender();
            let mut open = None;
            if obstacle == "a message in parts" {
                open = Some(sender.message_writer(options).await.unwrap());
            } else {
                ws.feed(vec![7; 200]).await.unwrap();
            }
            assert!(matches!(sender.message_writer(options).await, Err(Error::QueueFull)), "{obstacle}");
            assert!(matches!(ws.message_writer(options).await, Err(Error::QueueFull)), "{obstacle}");
            if let Some(open) = open {
                open.finish().await.unwrap();
            }
            let reading = tokio::spawn(async move { read_frames(&mut peer, End::Server, usize::MAX).await });
            ws.flush().await.unwrap();
            ws.message_writer(options).await.unwrap().finish().await.unwrap();
            sender.message_writer(options).await.unwrap().finish().await.unwrap();
            ws.flush().await.unwrap();
            ws.abort();
            let first = if obstacle == "a full queue" { Message::binary(vec![7; 200]) } else { "".into() };
            assert_eq!(messages(&reading.await.unwrap()), [first, "".into(), "".into()], "{obstacle}");
        });
    }
}

#[test]
fn a_senders_writer_that_is_dropped_closes_with_1011() {
    run("a dropped writer", async {
        let (pipe, mut peer) = duplex(1024);
        let (sender, mut receiver) = socket(End::Server, pipe, &Config::default()).split();
        let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
        assert!(matches!(writer.write(vec![0xff]).await, Err(Error::NotText)), "and nothing of it was sent");
        writer.write("half a ").await.unwrap();
        drop(writer);
        assert!(matches!(sender.send("more").await, Err(Error::Closed)));
        let frames = read_frames(&mut peer, End::Server, 2).await;
        assert_eq!((messages(&frames), close_code(&frames)), (Vec::new(), Some(1011)));
        write(&mut peer, close_frame(End::Client, 1011)).await;
        assert!(matches!(receiver.recv().await, Ok(None)));
    });
}

#[test]
fn a_writer_is_told_of_the_end_of_its_connection() {
    run("an end", async {
        let (client, mut server) = pair(Config::default());
        let (sender, receiver) = client.split();
        let mut writer = sender.message_writer(MessageKind::Binary).await.unwrap();
        writer.write("half").await.unwrap();
        receiver.abort();
        assert!(matches!(writer.write("other half").await, Err(Error::Closed)));
        assert!(writer.finish().await.is_err());
        assert!(matches!(sender.message_writer(MessageKind::Text).await, Err(Error::Closed)));
        let (got, end) = recv_all(&mut server).await;
        assert!(got.is_empty() && matches!(end, Err(Error::Lost)));
    });
}
