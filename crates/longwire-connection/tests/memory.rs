//! The budget for messages that have begun to arrive.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{CloseCode, Config, Error, Handover, MemoryBudget, WebSocket};
use support::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A server's connection, and the raw end of its client.
fn connected(budget: &MemoryBudget) -> (Pipe, WebSocket<Pipe>) {
    let (client, server) = duplex(4 << 20);
    let config = Config { memory: Some(budget.clone()), ..Config::default() };
    (client, WebSocket::new(server, Handover::server(), &config))
}

/// The header of a masked binary message of a megabyte, in one frame or as the first of several.
fn header(fin: bool) -> Vec<u8> {
    [&[if fin { 0x82 } else { 0x02 }, 0xff][..], &(1_u64 << 20).to_be_bytes(), &[0; 4]].concat()
}

/// Lets a connection read what is there.
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
            // As large as the first may be, and less than a share, with what is reserved for bytes to come.
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
        // Those who leave make room: the first completes its message, and what it held is free.
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
        assert!(matches!(read(&mut ws).await, Some(Error::OutOfMemory)));
    });
}
