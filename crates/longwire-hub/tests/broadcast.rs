//! Fan-out: delivery of broadcasts, and the cost of a client that does not read.

use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair, pair_over};
use longwire_connection::{Config, Error, Message, WebSocket};
use longwire_hub::{ClientId, ClientInfo, Hub, HubConfig, SlowPolicy, Socket};
use tokio::time::{Instant, sleep, timeout};

/// Receives until the connection ends.
async fn listen(mut ws: Socket<Pipe>) -> Result<(), Error> {
    while ws.recv().await?.is_some() {}
    Ok(())
}

/// Adds a client that receives, over a connection that holds `capacity` bytes each way.
fn join(hub: &Hub, capacity: usize) -> (ClientId, WebSocket<Pipe>) {
    let (client, server) = duplex(capacity);
    let (client, server) = pair_over(client, server, &Config::default());
    tokio::spawn(hub.run(server, ClientInfo::default(), listen));
    let id = hub.clients().last().expect("it was registered by the call").id();
    (id, client)
}

async fn next(client: &mut WebSocket<Pipe>) -> Message {
    let received = timeout(Duration::from_secs(1), client.recv()).await.expect("a message is there");
    received.expect("the connection is well").expect("the connection is open")
}

/// Returns the numbers at the start of the messages that have arrived, without waiting for more.
async fn numbers(client: &mut WebSocket<Pipe>) -> (Vec<u32>, Option<Error>) {
    let mut numbers = Vec::new();
    loop {
        match timeout(Duration::from_secs(1), client.recv()).await {
            Ok(Ok(Some(message))) => numbers.push(number(&message)),
            Ok(Ok(None)) | Err(_) => return (numbers, None),
            Ok(Err(error)) => return (numbers, Some(error)),
        }
    }
}

fn number(message: &Message) -> u32 {
    let first = message.as_bytes().first_chunk().expect("each message begins with its number");
    u32::from_be_bytes(*first)
}

/// Returns a message of 1 KiB that starts with `number`.
fn numbered(number: u32) -> Vec<u8> {
    let mut payload = vec![0; 1024];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

#[tokio::test(start_paused = true)]
async fn everybody_gets_a_broadcast_and_all_but_one_the_other() {
    let hub = Hub::default();
    let mut clients: Vec<_> = (0..3).map(|_| join(&hub, 1024)).collect();
    let delivery = hub.broadcast("to all");
    assert_eq!((delivery.accepted, delivery.dropped), (3, 0));
    let delivery = hub.broadcast_except(clients[1].0, vec![1, 2, 3]);
    assert_eq!((delivery.accepted, delivery.dropped), (2, 0));
    hub.broadcast("last");
    for (i, (_, client)) in clients.iter_mut().enumerate() {
        assert_eq!(next(client).await, "to all".into());
        if i != 1 {
            assert_eq!(next(client).await, vec![1, 2, 3].into());
        }
        assert_eq!(next(client).await, "last".into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_passes_on_what_it_receives_to_the_others() {
    let hub = Hub::default();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, server) = pair(Config::default());
        clients.push(client);
        tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
            while let Some(message) = ws.recv().await? {
                ws.hub().broadcast_except(ws.id(), message);
            }
            Ok::<_, Error>(())
        }));
    }
    for sender in 0..3 {
        clients[sender].send(format!("from {sender}")).await.unwrap();
        for (receiver, client) in clients.iter_mut().enumerate() {
            if receiver != sender {
                assert_eq!(next(client).await, format!("from {sender}").into());
            }
        }
    }
    for client in &mut clients {
        let more = timeout(Duration::from_millis(10), client.recv()).await;
        assert!(more.is_err(), "nobody hears itself: {more:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_delays_nobody_and_costs_a_bounded_queue() {
    const QUEUE: usize = 8 * 1024;
    for slow in [SlowPolicy::DropNewest, SlowPolicy::DropOldest, SlowPolicy::Close] {
        let hub = Hub::new(HubConfig::default().with_slow(slow).with_queue(QUEUE));
        let (sleeper_id, sleeper) = join(&hub, 2048);
        let sleeper_handle = hub.get(sleeper_id).unwrap();
        let (_, mut healthy) = join(&hub, 2048);
        let start = Instant::now();
        for number_sent in 0..500 {
            hub.broadcast(numbered(number_sent));
            assert_eq!(number(&next(&mut healthy).await), number_sent, "{slow:?}");
            let queued = sleeper_handle.sender().queued();
            assert!(queued <= QUEUE + 64, "{slow:?}: {queued} bytes wait");
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "{slow:?}: the healthy client never waited");
        let lost = sleeper_handle.dropped();
        assert_eq!(hub.stats().dropped, lost);
        match slow {
            SlowPolicy::Close => assert_eq!((lost, hub.stats().closed_slow), (1, 1)),
            _ => assert!((480..500).contains(&lost), "{slow:?}: {lost}"),
        }
        drop(sleeper);
    }
}

#[tokio::test(start_paused = true)]
async fn each_policy_loses_what_it_says() {
    // Two messages fit into the connection, and eight into the queue, including their overhead.
    let config = |slow| HubConfig::default().with_slow(slow).with_queue(8 * (1030 + 40));
    let sent = 100;
    for slow in [SlowPolicy::DropNewest, SlowPolicy::DropOldest, SlowPolicy::Close] {
        let hub = Hub::new(config(slow));
        let (id, mut client) = join(&hub, 2100);
        let mut dropped = 0;
        for number_sent in 0..sent {
            dropped += hub.broadcast(numbered(number_sent)).dropped;
        }
        let lost = hub.get(id).unwrap().dropped();
        assert_eq!(dropped as u64, lost);
        let (got, end) = numbers(&mut client).await;
        let kept = u32::try_from(got.len()).unwrap();
        match slow {
            SlowPolicy::DropNewest => {
                assert_eq!(got, (0..kept).collect::<Vec<_>>(), "the first ones");
                assert_eq!((end.is_none(), u64::from(kept) + lost), (true, 100));
            }
            SlowPolicy::DropOldest => {
                // The first two were written at once, and a message that is partly written stays.
                let newest: Vec<_> = (93..100).collect();
                assert_eq!(got, [&[0, 1, 2], &newest[..]].concat(), "the last ones");
                assert_eq!((end.is_none(), u64::from(kept) + lost), (true, 100));
            }
            SlowPolicy::Close => {
                assert_eq!(got, (0..kept).collect::<Vec<_>>(), "no gap");
                assert!(kept >= 8, "{kept}");
                let Some(Error::ClosedByPeer(frame)) = end else { panic!("{end:?}") };
                assert_eq!(frame.code, 1013.into());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_small_messages_count_for_more_than_their_bytes() {
    let hub = Hub::new(HubConfig::default().with_slow(SlowPolicy::DropNewest).with_queue(10_000));
    let (id, _sleeper) = join(&hub, 64);
    for _ in 0..10_000 {
        hub.broadcast("x");
    }
    let queued = hub.get(id).unwrap().sender().queued();
    assert!((300..1000).contains(&queued), "{queued} bytes in pieces of 3");
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_does_not_leave_is_dropped() {
    for (case, deaf) in [("its handler receives", false), ("its handler waits for something else", true)] {
        let leave_timeout = Duration::from_secs(7);
        let hub = Hub::new(HubConfig::default().with_queue(100).with_leave_timeout(leave_timeout));
        let (client, server) = duplex(100);
        let tap = client.tap();
        let (client, server) = pair_over(client, server, &Config::default());
        tokio::spawn(hub.run(server, ClientInfo::default(), move |ws| async move {
            if deaf {
                sleep(Duration::from_secs(3600)).await;
            }
            listen(ws).await
        }));
        for _ in 0..5 {
            hub.broadcast(vec![0; 90]);
        }
        assert_eq!(hub.stats().closed_slow, 1, "{case}: closed once");
        sleep(leave_timeout + Duration::from_millis(1)).await;
        assert!(tap.peer().is_dropped(), "{case}");
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_that_wakes_up_in_time_gets_everything() {
    let hub = Hub::new(HubConfig::default().with_queue(64 * 1024));
    let (_, mut client) = join(&hub, 500);
    for number_sent in 0..50 {
        assert_eq!(hub.broadcast(numbered(number_sent)).dropped, 0);
    }
    let (got, end) = numbers(&mut client).await;
    assert_eq!(got, (0..50).collect::<Vec<_>>());
    assert!(end.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_policy_can_be_changed_while_clients_are_connected() {
    let hub = Hub::new(HubConfig::default().with_slow(SlowPolicy::DropNewest).with_queue(100));
    let (_, client) = join(&hub, 100);
    for _ in 0..5 {
        hub.broadcast(vec![0; 90]);
    }
    assert_eq!(hub.stats().closed_slow, 0);
    hub.set_config(hub.config().with_slow(SlowPolicy::Close));
    hub.broadcast(vec![0; 90]);
    assert_eq!(hub.stats().closed_slow, 1);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_closing_client_gets_no_broadcast() {
    let hub = Hub::default();
    let (id, mut client) = join(&hub, 1000);
    hub.get(id).unwrap().sender().start_close(4000, "enough").unwrap();
    let delivery = hub.broadcast("too late");
    assert_eq!((delivery.accepted, delivery.dropped), (0, 0));
    let error = client.recv().await.unwrap_err();
    assert!(matches!(&error, Error::ClosedByPeer(frame) if frame.code == 4000.into()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn broadcasts_come_from_any_thread() {
    let hub = Hub::new(HubConfig::default().with_queue(100));
    let (_, mut client) = join(&hub, 100);
    let outside = hub.clone();
    let delivery = std::thread::spawn(move || {
        outside.broadcast("from outside the runtime");
        (0..5).map(|_| outside.broadcast(vec![0; 90]).dropped).sum::<usize>()
    });
    assert_eq!(delivery.join().unwrap(), 1, "closed with the first that finds no room");
    assert_eq!(next(&mut client).await, "from outside the runtime".into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_publishers_keep_their_order_while_clients_come_and_go() {
    const PUBLISHERS: u32 = 4;
    const EACH: u32 = 200;
    let hub = Hub::new(HubConfig::default().with_queue(16 << 20));
    let clients: Vec<_> = (0..8).map(|_| join(&hub, 3000).1).collect();
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let mut last = [0; PUBLISHERS as usize];
                for _ in 0..PUBLISHERS * EACH {
                    let number = number(&next(&mut client).await);
                    let (publisher, count) = (number / 1000, number % 1000);
                    let last = &mut last[publisher as usize];
                    assert_eq!(count, *last + 1, "publisher {publisher}");
                    *last = count;
                }
            })
        })
        .collect();
    let churn = tokio::spawn({
        let hub = hub.clone();
        async move {
            for _ in 0..100 {
                let (_, mut passer_by) = join(&hub, 100);
                let _ = passer_by.recv().await;
                drop(passer_by);
            }
        }
    });
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let hub = hub.clone();
            tokio::spawn(async move {
                for count in 1..=EACH {
                    hub.broadcast(numbered(publisher * 1000 + count));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in publishers.into_iter().chain(readers) {
        task.await.unwrap();
    }
    churn.abort();
}
