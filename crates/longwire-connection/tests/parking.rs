//! Compressors and decompressors that are given back to the pool when a connection is idle, and freed when no
//! connection needs them.

#![cfg(feature = "deflate")]

mod support;

use std::time::Duration;

use longwire_connection::deflate::{DeflateOptions, Pool, accept};
use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{Compress, Compression, Config, Error, Handover, WebSocket};
use support::{one_key, run};
use tokio::time::{sleep, timeout};

fn connected(pool: &Pool, no_takeover: bool) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    let mut options = DeflateOptions::default();
    options.server_no_context_takeover = no_takeover;
    let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
    let own = Compression::new(agreement, &options, pool);
    let peers = Compression::new(agreement, &options, &Pool::default());
    let (client, server) = duplex(1 << 20);
    let config = Config::default().with_deflate_idle(Duration::from_secs(3));
    (
        WebSocket::new(client, Handover::client(one_key).compression(peers), &config),
        WebSocket::new(server, Handover::server().compression(own), &config),
    )
}

#[test]
fn a_compressor_is_given_back_when_the_connection_is_idle() {
    run("parking", async {
        let pool = Pool::default();
        let (mut client, server) = connected(&pool, false);
        let (sender, mut receiver) = server.split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        let text = "parked and taken up again ".repeat(100);
        for round in 0..3 {
            for _ in 0..5 {
                // Each of these shows that it is in use.
                sender.send(text.as_str()).await.unwrap();
                assert_eq!(client.recv().await.unwrap().unwrap(), text.as_str().into());
                sleep(Duration::from_secs(2)).await;
                assert_eq!(pool.idle_compressors(), 0, "round {round}: in use");
            }
            sleep(Duration::from_secs(3)).await;
            assert_eq!(pool.idle_compressors(), 1, "round {round}: given back");
        }
        sender.start_close(1000, "").unwrap();
        assert_eq!(client.recv().await.unwrap(), None);
        drop(client);
        assert_eq!(receiving.await.unwrap().unwrap(), None);
    });
}

#[test]
fn a_decompressor_is_given_back_when_the_connection_is_idle() {
    run("parking of a decompressor", async {
        let pool = Pool::default();
        let (mut client, mut server) = connected(&pool, false);
        let text = "parked and taken up again ".repeat(100);
        for round in 0..3 {
            for _ in 0..5 {
                client.send(text.as_str()).await.unwrap();
                assert_eq!(server.recv().await.unwrap().unwrap(), text.as_str().into());
                assert!(timeout(Duration::from_secs(2), server.recv()).await.is_err());
                assert_eq!(pool.idle_decompressors(), 0, "round {round}: in use");
            }
            assert!(timeout(Duration::from_secs(3), server.recv()).await.is_err());
            assert_eq!(pool.idle_decompressors(), 1, "round {round}: given back");
        }
        client.abort();
        server.abort();
    });
}

#[test]
fn without_takeover_it_is_given_back_at_once() {
    run("no takeover", async {
        let pool = Pool::default();
        let (mut client, mut server) = connected(&pool, true);
        server.send("x".repeat(2000)).await.unwrap();
        assert_eq!(pool.idle_compressors(), 1);
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 2000);
        let sent = server.stats().bytes_sent;
        assert!(sent < 100, "{sent}");
        server.send_with("x".repeat(2000), Compress::Never).await.unwrap();
        assert_eq!(server.stats().bytes_sent, sent + 2004);
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 2000);
        let message = "y".repeat(2000);
        client.send(message.as_str()).await.unwrap();
        assert_eq!(server.recv().await.unwrap().unwrap(), message.as_str().into());
        assert!(timeout(Duration::from_secs(1), server.recv()).await.is_err());
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (1, 0), "the client has takeover");
        assert!(timeout(Duration::from_secs(9), server.recv()).await.is_err());
        assert_eq!((pool.idle_compressors(), pool.idle_decompressors()), (0, 0), "freed, after some time");
        client.abort();
        server.abort();
    });
}

#[test]
fn a_connection_that_has_ended_leaves_the_pool_to_others() {
    run("an ended connection", async {
        let pool = Pool::default();
        let (mut client, mut ended) = connected(&pool, true);
        ended.send("x".repeat(2000)).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap().len(), 2000);
        assert!(timeout(Duration::from_secs(1), ended.recv()).await.is_err());
        assert!(pool.sweeper().is_none(), "this connection has it");
        client.start_close(1000, "").unwrap();
        assert!(matches!(tokio::join!(client.recv(), ended.recv()), (Ok(None), Ok(None))));
        let (other_client, mut other) = connected(&pool, true);
        assert!(timeout(Duration::from_secs(9), other.recv()).await.is_err());
        assert_eq!(pool.idle_compressors(), 0);
        drop((ended, other_client));
    });
}

/// Connections that take turns use the same few contexts. When all of them are silent, the contexts are freed; and the
/// connections take new ones.
#[test]
fn contexts_follow_their_use() {
    run("the pool", async {
        let pool = Pool::default();
        let mut clients = Vec::new();
        for _ in 0..40 {
            let (client, mut server) = connected(&pool, false);
            clients.push(client);
            tokio::spawn(async move {
                while let Ok(Some(message)) = server.recv().await {
                    server.send(message).await?;
                }
                Ok::<_, Error>(())
            });
        }
        let text = "one of many messages ".repeat(100);
        for phase in 0..3 {
            for round in 0..10 {
                for client in &mut clients {
                    client.send(text.as_str()).await.unwrap();
                    assert_eq!(client.recv().await.unwrap().unwrap(), text.as_str().into());
                }
                let idle = (pool.idle_compressors(), pool.idle_decompressors());
                // All decompressors are kept.
                assert_eq!(idle, (1, 0), "phase {phase}, round {round}");
                // Longer than a context is unused, shorter than a connection is idle.
                sleep(Duration::from_millis(2500)).await;
            }
            let mut most = 0;
            for _ in 0..100 {
                sleep(Duration::from_millis(100)).await;
                most = most.max(pool.idle_compressors());
            }
            assert!((2..=16).contains(&most), "phase {phase}: {most} were given back");
            let idle = (pool.idle_compressors(), pool.idle_decompressors());
            assert_eq!(idle, (0, 0), "phase {phase}: all are freed");
            // Among these is the one that swept last.
            for client in clients.drain(..clients.len() / 4) {
                client.abort();
            }
        }
    });
}
