//! Reconnecting clients that resume on another node of a cluster.

#![cfg(all(feature = "client", feature = "cluster", feature = "server"))]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire::cluster::{Cluster, ClusterOptions, History, Joined, Memory, Position};
use longwire::reconnect::{Backoff, Builder};
use longwire::{Client, Hub, Message, Server};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

const CLIENTS: usize = 10;
const MESSAGES: usize = 300;

/// A node in a runtime of its own.
struct Node {
    runtime: Runtime,
    hub: Hub,
    /// Forwards the connections of clients.
    network: Runtime,
    address: SocketAddr,
}

impl Node {
    /// Ends the node as a process that is killed: no client gets a close frame.
    fn kill(self) {
        self.network.shutdown_background();
        self.runtime.shutdown_background();
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime can be made")
}

/// Forwards connections to an address, and returns the one to connect to.
async fn forward(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(to).await.expect("the node listens");
            tokio::spawn(async move {
                // Either end may close it.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    address
}

/// Starts a node whose clients get `POSITION welcome RECOVERED` first, and then `POSITION TEXT`.
fn start(broker: Memory) -> Node {
    let (runtime, network) = (runtime(), runtime());
    let (hub, address) = runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await.expect("there is a port");
        let (hub, address) = (server.hub().clone(), server.local_addr());
        let options = ClusterOptions::default()
            .with_history(History::default())
            .with_history_message(|position, message| format!("{position} {message}").into())
            .with_gap_message(|_| Some("gap".into()));
        let cluster = Cluster::join(&hub, broker, options).await.expect("the broker is there");
        let server = server.route("/rooms/{room}", move |mut ws, request| {
            let cluster = cluster.clone();
            async move {
                let room = request.param("room").unwrap_or_default();
                let since = request.query("since").map(|since| since.parse::<Position>()).transpose()?;
                let welcome = |joined: &Joined| {
                    Some(format!("{} welcome {}", joined.position, joined.recovered).into())
                };
                cluster.join_since(&ws.client(), room, since, welcome).await?;
                while ws.recv().await?.is_some() {}
                Ok(())
            }
        });
        server.expect("the path is valid").serve_routes().spawn();
        (hub, address)
    });
    let address = network.block_on(forward(address));
    Node { runtime, hub, network, address }
}

fn text(message: &Message) -> (&str, &str) {
    let text = message.as_text().expect("a text");
    text.split_once(' ').unwrap_or_else(|| panic!("no position: {text}"))
}

/// Connects to the addresses in turn, and returns everything up to the last message.
async fn receive(addresses: [SocketAddr; 2], has_joined: impl FnOnce()) -> Vec<String> {
    let since = Arc::new(Mutex::new(None::<String>));
    let newest = Arc::clone(&since);
    let mut attempts = 0;
    let mut ws = Builder::new(move || {
        let address = addresses[attempts % 2];
        attempts += 1;
        let since = since.lock().expect("no panic");
        let query = since.as_ref().map(|since| format!("?since={since}")).unwrap_or_default();
        let client = Client::new(format!("ws://{address}/rooms/tea{query}"));
        async move { client.connect().await.map(|(ws, _response)| ws) }
    })
    .on_message(move |message| *newest.lock().expect("no panic") = Some(text(message).0.to_owned()))
    .backoff(Backoff::default().with_first(Duration::from_millis(20)))
    .start();
    let mut has_joined = Some(has_joined);
    let mut received = Vec::new();
    let last = (MESSAGES - 1).to_string();
    while received.last() != Some(&last) {
        let message = timeout(Duration::from_secs(60), ws.recv()).await.expect("a message arrives");
        let message = message.expect("the other node is there").expect("nobody closes it");
        if let Some(joined) = has_joined.take() {
            joined();
        }
        received.push(text(&message).1.to_owned());
    }
    // Nothing comes after it.
    assert!(timeout(Duration::from_millis(100), ws.recv()).await.is_err());
    received
}

/// The first node dies in the midst of messages: each client gets each message once, in order, from either.
#[test]
fn clients_of_a_node_that_dies_resume_on_another() {
    let broker = Memory::new();
    let (one, two) = (start(broker.clone()), start(broker));
    let runtime = Runtime::new().expect("a runtime can be made");
    runtime.block_on(publish_and_kill(one, &two));
}

async fn publish_and_kill(one: Node, two: &Node) {
    let (joined, mut is_joined) = tokio::sync::mpsc::unbounded_channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let joined = joined.clone();
            let has_joined = move || joined.send(()).expect("the test still waits");
            tokio::spawn(receive([one.address, two.address], has_joined))
        })
        .collect();
    for _ in 0..CLIENTS {
        timeout(Duration::from_secs(60), is_joined.recv()).await.expect("it joins");
    }
    assert_eq!((one.hub.len(), two.hub.len()), (CLIENTS, 0));
    let mut one = Some(one);
    for number in 0..MESSAGES {
        two.hub.publish("tea", number.to_string());
        sleep(Duration::from_millis(3)).await;
        if number == MESSAGES / 3 {
            one.take().expect("it was there").kill();
        }
    }
    let numbers: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    for client in clients {
        let mut received = client.await.expect("nothing is missing");
        assert_eq!(received.remove(0), "welcome false");
        // The place of the second welcome tells when the node was missed.
        let second = received.iter().position(|text| text == "welcome true").expect("it has resumed");
        received.remove(second);
        assert_eq!(received, numbers, "resumed after {second}");
    }
}
