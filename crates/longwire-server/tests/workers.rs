//! One server on several threads: its clients are in one hub, and it starts and ends as a unit.

mod common;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use longwire_connection::WebSocket;
use longwire_server::{BoxError, HandlerResult, ListenOptions, Request, Server, Socket, Workers};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use common::{REQUEST, check_echo, exchange, open, soon};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Sends the name of its thread, then broadcasts every message it receives.
async fn announce(mut ws: Socket, _: Request) -> HandlerResult {
    let thread = format!("{:?}", std::thread::current().name());
    ws.send(thread).await?;
    while let Some(message) = ws.recv().await? {
        ws.hub().broadcast(message);
    }
    Ok(())
}

fn run(workers: Workers) -> JoinHandle<Result<(), BoxError>> {
    spawn_blocking(|| workers.run(|server| async { Ok(server.serve(announce).await?) }))
}

/// Connects until the clients are spread over this many threads.
async fn spread(addr: SocketAddr, threads: usize) -> Vec<WebSocket<TcpStream>> {
    let (mut clients, mut seen) = (Vec::new(), HashSet::new());
    while seen.len() < threads {
        assert!(clients.len() < 200, "every worker gets its share: {seen:?}");
        let mut client = open(addr).await;
        seen.insert(soon(client.recv()).await.unwrap().unwrap());
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn a_broadcast_reaches_the_clients_of_every_worker() {
    let workers = Workers::bind(LOOPBACK, 3).unwrap();
    let (addr, handle) = (workers.local_addr(), workers.handle());
    assert_eq!(addr.ip(), LOOPBACK.ip());
    let running = run(workers);
    let mut clients = spread(addr, 3).await;
    assert_eq!(handle.hub().len(), clients.len());
    for round in 0..3 {
        let message = format!("round {round}");
        clients[round].send(message.as_str()).await.unwrap();
        for client in &mut clients {
            assert_eq!(soon(client.recv()).await.unwrap(), Some(message.as_str().into()));
        }
    }
    // From a thread that is not a worker's.
    assert_eq!(handle.hub().broadcast("to all").accepted, clients.len());
    for client in &mut clients {
        assert_eq!(soon(client.recv()).await.unwrap(), Some("to all".into()));
    }
    let shutdown = tokio::spawn(handle.shutdown());
    for client in &mut clients {
        assert_eq!(soon(client.recv()).await.unwrap(), None);
        let code = client.close_received().map(|frame| u16::from(frame.code));
        assert_eq!(code, Some(1001), "every worker's clients are told");
    }
    drop(clients);
    soon(shutdown).await.unwrap();
    soon(running).await.unwrap().unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn settings_hold_for_all_workers_together() {
    let workers = Workers::bind_with(LOOPBACK, 2, ListenOptions::default().with_backlog(16))
        .unwrap()
        .configure(|config| {
            config.hub.max_clients = Some(4);
            config.shutdown.reason = "see you".into();
        });
    let (addr, handle) = (workers.local_addr(), workers.handle());
    assert_eq!(workers.hub().config().max_clients, Some(4));
    let running = run(workers);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = open(addr).await;
        soon(client.recv()).await.unwrap();
        clients.push(client);
    }
    for _ in 0..8 {
        let answer = exchange(addr, REQUEST.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "whichever worker it is: {answer}");
    }
    let shutdown = tokio::spawn(handle.shutdown());
    for client in &mut clients {
        assert_eq!(soon(client.recv()).await.unwrap(), None);
        let reason = client.close_received().map(|frame| frame.reason.to_string());
        assert_eq!(reason.as_deref(), Some("see you"));
    }
    drop(clients);
    soon(shutdown).await.unwrap();
    soon(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn when_one_worker_ends_all_do() {
    async fn fail_or_serve(server: Server, how: &str) -> Result<(), BoxError> {
        if std::thread::current().name() != Some("worker 1") {
            return Ok(server.serve(announce).await?);
        }
        // By now the other workers are running.
        sleep(Duration::from_millis(100)).await;
        match how {
            "an error" => Err("out of luck".into()),
            "a panic" => panic!("out of luck"),
            _ => Ok(()),
        }
    }
    for (how, expected) in
        [("an end", Some(Ok(()))), ("an error", Some(Err("out of luck"))), ("a panic", None)]
    {
        let workers = Workers::bind(LOOPBACK, 3).unwrap();
        let addr = workers.local_addr();
        let running = spawn_blocking(move || workers.run(|server| fail_or_serve(server, how)));
        let ended = soon(running).await.ok().map(|ended| ended.map_err(|error| error.to_string()));
        assert_eq!(ended, expected.map(|ended| ended.map_err(str::to_owned)), "{how}");
        assert!(TcpStream::connect(addr).await.is_err(), "{how}");
    }
}

/// The end of a runtime waits for its blocking tasks, which may be long.
#[tokio::test]
async fn when_one_worker_ends_the_others_do_not_wait_for_its_blocking_tasks() {
    let workers = Workers::bind(LOOPBACK, 3).unwrap();
    let addr = workers.local_addr();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(Some(released));
    let running = spawn_blocking(move || {
        workers.run(async |server| {
            if std::thread::current().name() != Some("worker 1") {
                return Ok::<_, BoxError>(server.serve(announce).await?);
            }
            let released = released.lock().unwrap().take().unwrap();
            drop(spawn_blocking(move || released.recv()));
            sleep(Duration::from_millis(100)).await;
            Err("out of luck".into())
        })
    });
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), refused).await;
    drop(release);
    assert_eq!(soon(running).await.unwrap().unwrap_err().to_string(), "out of luck");
    in_time.expect("the others have stopped");
}

#[tokio::test]
async fn workers_hand_their_listeners_over_together() {
    let workers = Workers::bind(LOOPBACK, 2).unwrap();
    let (addr, handle) = (workers.local_addr(), workers.handle());
    let running = run(workers);
    let mut clients = spread(addr, 2).await;
    let listeners = handle.hand_over().unwrap();
    assert_eq!(listeners.tcp.len(), 2);
    let next = common::start(Server::from_listeners(listeners).unwrap());
    assert_eq!(next.addr, addr);
    for _ in 0..8 {
        check_echo(&mut open(addr).await, "here").await;
    }
    let first = &mut clients[0];
    first.send("still there").await.unwrap();
    assert_eq!(soon(first.recv()).await.unwrap(), Some("still there".into()));
    drop(clients);
    soon(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn no_worker_is_one() {
    let workers = Workers::bind(LOOPBACK, 0).unwrap();
    let (addr, handle) = (workers.local_addr(), workers.handle());
    let running = run(workers);
    let mut client = open(addr).await;
    soon(client.recv()).await.unwrap();
    drop(client);
    soon(handle.shutdown()).await;
    soon(running).await.unwrap().unwrap();
}
