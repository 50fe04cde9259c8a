//! Compressors that are given back to the pool when a connection is idle.

#![cfg(feature = "deflate")]

mod support;

use std::time::Duration;

use longwire_connection::deflate::{DeflateOptions, Pool, accept};
use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{Compress, Compression, Config, Handover, WebSocket};
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
            sleep(Duration::from_secs(4)).await;
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
            assert!(timeout(Duration::from_secs(4), server.recv()).await.is_err());
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
        client.abort();
        server.abort();
    });
}
