//! Calls that wait for the peer to read: their duration, and the work done meanwhile.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex};
use longwire_connection::{Config, Error, Keepalive, WebSocket, drive};
use support::{End, run, socket};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

fn keepalive() -> Keepalive {
    Keepalive::default().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(20))
}

fn config() -> Config {
    Config::default().with_keepalive(keepalive()).with_send_queue(100)
}

async fn send_for_ever(ws: &mut WebSocket<Pipe>) -> Error {
    loop {
        if let Err(error) = ws.send(vec![7; 40]).await {
            return error;
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    for driven in [false, true] {
        run("a peer that takes nothing", async {
            let (pipe, peer) = duplex(64);
            let tap = pipe.tap();
            let mut ws = socket(End::Server, pipe, &config());
            let start = Instant::now();
            let error = if driven {
                drive(ws, async |mut ws| Err::<(), _>(send_for_ever(&mut ws).await)).await.unwrap_err()
            } else {
                let error = send_for_ever(&mut ws).await;
                assert!(matches!(ws.recv().await, Err(Error::PeerGone)), "receiving tells it as well");
                error
            };
            assert!(matches!(error, Error::PeerGone), "{error}");
            // The peer took some bytes at the start: noticed at 7.5 s, pinged an interval later, given up 20 s
            // after that.
            assert_eq!(start.elapsed().as_millis(), 57_500, "driven: {driven}");
            assert!(tap.is_dropped());
            drop(peer);
        });
    }
}

#[test]
fn a_slow_peer_that_says_nothing_is_not_given_up() {
    run("a slow peer", async {
        let (pipe, mut peer) = duplex(64);
        let mut ws = socket(End::Server, pipe, &config());
        let reading = tokio::spawn(async move {
            let mut buf = [0; 10];
            for _ in 0..30 {
                sleep(Duration::from_secs(15)).await;
                peer.read_exact(&mut buf).await.unwrap();
            }
            Instant::now()
        });
        let error = send_for_ever(&mut ws).await;
        // The peer is dropped after it has read for 450 s.
        assert!(matches!(error, Error::Io(_)), "{error}");
        assert_eq!(reading.await.unwrap(), Instant::now());
    });
}
