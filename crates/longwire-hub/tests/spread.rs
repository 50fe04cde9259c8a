//! Shutdowns that are spread over time, or that send a different close frame to each client.

use std::time::Duration;

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{CloseFrame, Config, Error, WebSocket};
use longwire_hub::{ClientHandle, ClientId, ClientInfo, Hub, HubError, Shutdown};
use tokio::time::Instant;

fn join(hub: &Hub) -> WebSocket<Pipe> {
    let (client, server) = pair(Config::default());
    tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        while ws.recv().await?.is_some() {}
        Ok::<_, Error>(())
    }));
    client
}

/// Returns the close frame that a peer gets, and the time when it arrives.
async fn told(mut peer: WebSocket<Pipe>) -> (CloseFrame, Instant) {
    let _ = peer.recv().await;
    let frame = peer.close_received().expect("a close frame came").clone();
    (frame, Instant::now())
}

#[tokio::test(start_paused = true)]
async fn close_frames_are_spread_evenly() {
    let hub = Hub::default();
    let peers: Vec<_> = (0..10).map(|_| tokio::spawn(told(join(&hub)))).collect();
    let start = Instant::now();
    let shutdown = Shutdown::default().with_spread(Duration::from_secs(5));
    let drained = hub.shutdown_with(&shutdown, |_| None).await.unwrap();
    assert_eq!(drained.aborted, 0);
    assert!(start.elapsed() < Duration::from_secs(5), "the end is that of the last client");
    for (n, peer) in (0..).zip(peers) {
        let (frame, at) = peer.await.unwrap();
        assert_eq!(frame.code, 1001.into());
        let due = Duration::from_millis(500) * n;
        let late = (at - start).checked_sub(due).expect("not early");
        assert!(late < Duration::from_millis(10), "client {n}: {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_client_can_be_told_something_else() {
    let hub = Hub::default();
    let peers: Vec<_> = (0..4).map(|_| join(&hub)).collect();
    let ids: Vec<ClientId> = hub.clients().iter().map(ClientHandle::id).collect();
    let shutdown = Shutdown::default().with_reason("for all");
    let shutdown = hub.shutdown_with(&shutdown, |client| match client.id() {
        id if id == ids[1] => Some(CloseFrame::new(4001.into(), "for one")),
        id if id == ids[2] => Some(CloseFrame::new(1006.into(), "")),
        id if id == ids[3] => Some(CloseFrame::new(1001.into(), &*"x".repeat(124))),
        _ => None,
    });
    let told = async {
        let mut all = Vec::new();
        for peer in peers {
            all.push(told(peer).await.0);
        }
        all
    };
    let (drained, told) = tokio::join!(shutdown, told);
    assert_eq!(drained.unwrap().aborted, 0);
    let general = CloseFrame::new(1001.into(), "for all");
    let own = CloseFrame::new(4001.into(), "for one");
    assert_eq!(told, [general.clone(), own, general.clone(), general], "what cannot be sent is not");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_one_for_the_whole() {
    let hub = Hub::default();
    let peers: Vec<_> = (0..4).map(|_| join(&hub)).collect();
    let start = Instant::now();
    let deadline = Duration::from_secs(4);
    let shutdown = Shutdown::default().with_spread(Duration::from_secs(3600)).with_deadline(deadline);
    // These peers do not answer.
    let drained = hub.shutdown_with(&shutdown, |_| None).await.unwrap();
    assert_eq!(drained.aborted, 4);
    assert!(start.elapsed() < deadline + Duration::from_secs(1), "{:?}", start.elapsed());
    drop(peers);
}

#[tokio::test(start_paused = true)]
async fn a_spread_shutdown_admits_nobody_and_ends_when_all_have_left() {
    let hub = Hub::default();
    let mut peers: Vec<_> = (0..2).map(|_| join(&hub)).collect();
    let start = Instant::now();
    let shutdown =
        Shutdown::default().with_spread(Duration::from_secs(8)).with_deadline(Duration::from_secs(60));
    let leaving = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(matches!(hub.reserve(None), Err(HubError::ShuttingDown)));
        let mut last = peers.pop().unwrap();
        last.send("not told yet").await.unwrap();
        last.close(1000, "").await.unwrap();
        drop(peers);
    };
    let (drained, ()) = tokio::join!(hub.shutdown_with(&shutdown, |_| None), leaving);
    assert_eq!(drained.unwrap().aborted, 0);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
