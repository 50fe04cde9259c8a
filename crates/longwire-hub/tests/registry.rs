//! Registration of clients, and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, Error, WebSocket};
use longwire_hub::{ClientInfo, Hub, HubError, RunError, Socket};
use tokio::time::{sleep, timeout};

fn admit(hub: &Hub) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = pair(Config::default());
    let socket = hub.admit(server, ClientInfo::default()).expect("the hub is open");
    (client, socket)
}

async fn within_a_second<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(1), future).await.expect("in time")
}

#[tokio::test(start_paused = true)]
async fn clients_are_found_by_their_names() {
    let hub = Hub::default();
    let addr: SocketAddr = "192.0.2.7:7".parse().unwrap();
    let (_client, server) = pair(Config::default());
    let first = hub.admit(server, ClientInfo::default().peer_addr(addr)).unwrap();
    let (_other_client, second) = admit(&hub);
    assert_eq!((first.id().value(), second.id().value()), (1, 2));
    assert_eq!(hub.get(first.id()).unwrap().peer_addr(), Some(addr));
    assert_eq!(hub.get(second.id()).unwrap().peer_addr(), None);
    assert_eq!(first.client().id(), first.id());
    let names: Vec<_> = hub.clients().iter().map(|client| client.id().to_string()).collect();
    assert_eq!(names, ["1", "2"], "in the order in which they came");
    assert_eq!(hub.len(), 2);

    let gone = first.id();
    drop(first);
    assert!(hub.get(gone).is_none());
    assert_eq!(hub.len(), 1);
    let (_third_client, third) = admit(&hub);
    assert_eq!(third.id().value(), 3, "names are not used again");
    assert_eq!((hub.stats().clients, hub.stats().admitted), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn the_list_of_clients_is_made_anew_only_after_a_change() {
    let hub = Hub::default();
    let (_client, socket) = admit(&hub);
    let before = hub.clients();
    assert!(Arc::ptr_eq(&before, &hub.clients()));
    let (_other_client, _other) = admit(&hub);
    assert_eq!((before.len(), hub.clients().len()), (1, 2));
    drop(socket);
    assert_eq!(hub.clients().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_registered_until_its_connection_is_closed() {
    let hub = Hub::default();
    let (mut client, server) = pair(Config::default());
    let task = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        assert_eq!(ws.hub().len(), 1);
        ws.send("bye").await
    }));
    assert_eq!(hub.len(), 1, "from the call on");
    assert_eq!(client.recv().await.unwrap(), Some("bye".into()));
    assert_eq!(hub.len(), 1, "the closing handshake is still going on");
    assert_eq!(within_a_second(client.recv()).await.unwrap(), None);
    drop(client);
    within_a_second(task).await.unwrap().unwrap();
    assert!(hub.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_stays_behind_however_the_handler_ends() {
    let hub = Hub::default();

    let (_client, server) = pair(Config::default());
    let task = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        ws.recv().await?;
        Ok::<_, Error>(())
    }));
    task.abort();
    assert!(within_a_second(task).await.unwrap_err().is_cancelled());
    assert!(hub.is_empty(), "cancelled");

    let (_client, server) = pair(Config::default());
    let task = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        ws.send("x").await?;
        assert!(ws.hub().is_empty(), "a panic on purpose");
        Ok::<_, Error>(())
    }));
    assert!(within_a_second(task).await.unwrap_err().is_panic());
    assert!(hub.is_empty(), "panicked");

    let (client, server) = pair(Config::default());
    client.abort();
    let task = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        while ws.recv().await?.is_some() {}
        Ok(())
    }));
    let ended = within_a_second(task).await.unwrap();
    assert!(matches!(ended, Err(RunError::Handler(Error::Lost))), "{ended:?}");
    assert!(hub.is_empty(), "failed");

    let (_client, server) = pair(Config::default());
    drop(hub.run(server, ClientInfo::default(), |_| async { Ok::<_, Error>(()) }));
    assert!(hub.is_empty(), "never polled");
}

#[tokio::test(start_paused = true)]
async fn a_split_socket_is_registered_until_its_receiver_is_dropped() {
    let hub = Hub::default();
    let (mut client, socket) = admit(&hub);
    let (sender, mut receiver) = socket.split();
    assert_eq!(hub.len(), 1);
    hub.broadcast("hello");
    assert_eq!(client.recv().await.unwrap(), Some("hello".into()));
    client.send("hi").await.unwrap();
    assert_eq!(receiver.recv().await.unwrap(), Some("hi".into()));
    drop(receiver);
    assert!(hub.is_empty());
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_its_handler_moved_away_stays_registered() {
    let hub = Hub::default();
    let (mut client, server) = pair(Config::default());
    let run = hub.run(server, ClientInfo::default(), |mut ws| async move {
        tokio::spawn(async move { while ws.recv().await.is_ok_and(|message| message.is_some()) {} });
        Ok::<_, Error>(())
    });
    within_a_second(run).await.unwrap();
    assert_eq!(hub.len(), 1);
    hub.broadcast("still here");
    assert_eq!(within_a_second(client.recv()).await.unwrap(), Some("still here".into()));
    client.close(1000, "").await.unwrap();
    within_a_second(hub.emptied()).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_everybody_and_loses_nothing_that_was_sent_before() {
    let hub = Hub::default();
    let mut clients = Vec::new();
    let mut handlers = Vec::new();
    for _ in 0..10 {
        let (client, server) = pair(Config::default());
        clients.push(client);
        handlers.push(tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
            let mut count = 0;
            while let Some(message) = ws.recv().await? {
                // After the close frame nothing can be echoed, but all messages are still received.
                let _ = ws.send(message).await;
                count += 1;
            }
            if count == 3 { Ok(()) } else { Err(Error::Lost) }
        })));
    }
    for client in &mut clients {
        for message in ["1", "2"] {
            client.send(message).await.unwrap();
            assert_eq!(client.recv().await.unwrap(), Some(message.into()));
        }
    }
    hub.broadcast("before the end");
    let shutdown = hub.shutdown(1001, "off to bed", Duration::from_secs(5));
    let peers = async {
        for client in &mut clients {
            client.send("3").await.unwrap();
            assert_eq!(client.recv().await.unwrap(), Some("before the end".into()));
            assert_eq!(client.recv().await.unwrap(), None);
            let frame = client.close_received().unwrap();
            assert_eq!((frame.code, frame.reason.as_str()), (1001.into(), "off to bed"));
        }
        clients.clear();
    };
    // The clients' last messages are in transit before the clients see the close frames.
    let ((), drained) = tokio::join!(peers, shutdown);
    assert_eq!(drained.unwrap().aborted, 0);
    assert!(hub.is_empty());
    for handler in handlers {
        handler.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_admits_nobody() {
    let hub = Hub::default();
    within_a_second(hub.shutdown(1001, "", Duration::ZERO)).await.unwrap();
    assert!(hub.is_shutting_down());

    let (mut client, server) = pair(Config::default());
    let ended = hub.run(server, ClientInfo::default(), |_| async { panic!("not called") }).await;
    assert!(matches!(ended, Err(RunError::<Error>::Refused(HubError::ShuttingDown))), "{ended:?}");
    assert_eq!(client.recv().await.unwrap(), None);
    assert_eq!(client.close_received().unwrap().code, 1001.into());

    let (_client, server) = pair(Config::default());
    let refused = hub.admit(server, ClientInfo::default());
    assert!(matches!(refused, Err(HubError::ShuttingDown)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drops_at_its_deadline_who_has_not_left() {
    struct Witness(Arc<()>);
    let alive = Arc::new(());
    let hub = Hub::default();

    // One peer does not answer the close frame, one handler ignores it, and no task drives the third socket.
    let (silent_client, server) = pair(Config::default().with_close_timeout(Duration::from_secs(600)));
    let witness = Witness(Arc::clone(&alive));
    let silent = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        while ws.recv().await?.is_some() {}
        drop(witness.0);
        Ok::<_, Error>(())
    }));
    let (deaf_client, server) = pair(Config::default());
    let witness = Witness(Arc::clone(&alive));
    let deaf = tokio::spawn(hub.run(server, ClientInfo::default(), |ws| async move {
        std::future::pending::<()>().await;
        drop((ws, witness.0));
        Ok::<_, Error>(())
    }));
    let (_forgotten_client, _forgotten) = admit(&hub);

    let start = tokio::time::Instant::now();
    let drained = hub.shutdown(1001, "", Duration::from_secs(3)).await.unwrap();
    assert_eq!(drained.aborted, 3);
    assert!(start.elapsed() <= Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(hub.len(), 1, "the socket that nobody drives");
    for task in [silent, deaf] {
        assert!(matches!(within_a_second(task).await.unwrap(), Err(RunError::Aborted)));
    }
    assert_eq!(Arc::strong_count(&alive), 1, "the handlers are gone");
    drop((silent_client, deaf_client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_is_dropped_that_the_deadline_meets_in_its_first_poll() {
    let hub = Hub::default();
    let (_client, server) = pair(Config::default());
    let run = tokio::spawn(hub.run(server, ClientInfo::default(), |ws| async move {
        // Spins in the first poll until the shutdown has dropped the connection. If it was dropped before, the loop
        // ends at once; the result is the same.
        while ws.with_transport(|_| ()).is_some() {
            std::thread::yield_now();
        }
        std::future::pending::<()>().await;
        Ok::<_, Error>(())
    }));
    let drained = hub.shutdown(1001, "", Duration::ZERO).await.unwrap();
    assert_eq!(drained.aborted, 1);
    assert!(matches!(within_a_second(run).await.unwrap(), Err(RunError::Aborted)));
}

/// A handler hands its connection to another hub, whose shutdown drops the handler there, and no other.
#[tokio::test(start_paused = true)]
async fn a_shutdown_drops_the_handlers_of_its_own_clients() {
    let (outer, inner) = (Hub::default(), Hub::default());
    let (_client, server) = pair(Config::default());
    let handing = {
        let inner = inner.clone();
        outer.run(server, ClientInfo::default(), |socket| async move {
            let ws = socket.into_inner();
            let ended = inner.run(ws, ClientInfo::default(), |ws| async move {
                std::future::pending::<()>().await;
                drop(ws);
                Ok::<_, Error>(())
            });
            assert!(matches!(ended.await, Err(RunError::Aborted)));
            sleep(Duration::from_secs(1)).await;
            Ok::<_, Error>(())
        })
    };
    let handing = tokio::spawn(handing);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(inner.shutdown(1001, "", Duration::ZERO).await.unwrap().aborted, 1);
    assert!(timeout(Duration::from_secs(10), handing).await.expect("in time").unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_same_end() {
    let hub = Hub::default();
    let (mut client, server) = pair(Config::default());
    tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        while ws.recv().await?.is_some() {}
        Ok::<_, Error>(())
    }));
    let long = Duration::from_secs(60);
    let (first, second, ()) =
        tokio::join!(hub.shutdown(1001, "", long), hub.shutdown(1012, "other", long), async {
            sleep(Duration::from_millis(100)).await;
            assert_eq!(client.recv().await.unwrap(), None);
            assert_eq!(client.close_received().unwrap().code, 1001.into());
            drop(client);
        });
    assert_eq!((first.unwrap().aborted, second.unwrap().aborted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn shutdown_refuses_a_close_frame_that_cannot_be_sent() {
    let hub = Hub::default();
    for (case, code, reason) in [
        ("a code that is for internal use", 1006, String::new()),
        ("a code of no range", 999, String::new()),
        ("a reason of 124 bytes", 1001, "x".repeat(124)),
    ] {
        let refused = hub.shutdown(code, &reason, Duration::ZERO).await;
        assert!(matches!(refused, Err(HubError::InvalidClose(_))), "{case}: {refused:?}");
        assert!(!hub.is_shutting_down(), "{case}: nothing was begun");
    }
}
