//! Nodes of a cluster, with clients.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test uses a part")]

pub(crate) mod broker;
pub(crate) mod history;
pub(crate) mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longwire_cluster::{
    Append, Backplane, BackplaneError, BoxFuture, Channel, Cluster, ClusterOptions, History, Inbox, NodeId,
    Past, Position,
};
use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, Message, WebSocket};
use longwire_hub::{ClientHandle, ClientInfo, Hub, Socket};
use tokio::time::timeout;

/// A node: a hub in a cluster.
pub(crate) struct TestNode {
    pub(crate) hub: Hub,
    pub(crate) cluster: Cluster,
}

/// A link to a broker that the test uses beside the node.
pub(crate) struct Shared<B>(pub(crate) Arc<B>);

impl<B: Backplane> Backplane for Shared<B> {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.0.start(node, inbox)
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.subscribe(channels)
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.unsubscribe(channels)
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.publish(messages)
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.keep(history)
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.append(messages)
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        self.0.history(room, after, most)
    }

    fn max_payload(&self) -> usize {
        self.0.max_payload()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.0.probe()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop()
    }
}

/// A client of a node, and what the node has of it.
pub(crate) struct Client {
    pub(crate) ws: WebSocket<Pipe>,
    pub(crate) socket: Socket<Pipe>,
}

impl TestNode {
    pub(crate) async fn new(backplane: impl Backplane, options: ClusterOptions) -> Self {
        let hub = Hub::default();
        let cluster = Cluster::join(&hub, backplane, options).await.expect("the broker is there");
        Self { hub, cluster }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(ClientInfo::default())
    }

    pub(crate) fn client_with(&self, info: ClientInfo) -> Client {
        let (ws, server) = pair(Config::default());
        let socket = self.hub.admit(server, info).expect("the hub is open");
        Client { ws, socket }
    }

    /// Returns a client in a room whose messages arrive.
    pub(crate) async fn member(&self, room: &str) -> Client {
        let client = self.client();
        client.join(room);
        self.cluster.subscribed(room).await.expect("the node is in its cluster");
        client
    }
}

impl Client {
    pub(crate) fn handle(&self) -> ClientHandle {
        self.socket.client()
    }

    pub(crate) fn join(&self, room: &str) {
        assert!(matches!(self.socket.join(room), Ok(true)));
    }

    /// Receives a message, while the node's end of the connection writes what did not fit into the pipe at once.
    async fn received(&mut self) -> Result<Option<Message>, longwire_connection::Error> {
        tokio::select! {
            received = self.ws.recv() => received,
            said = self.socket.recv() => panic!("the client has said something: {said:?}"),
        }
    }

    /// Receives a text.
    pub(crate) async fn text(&mut self) -> String {
        let received = timeout(Duration::from_secs(20), self.received()).await.expect("a message arrives");
        match received.expect("the connection is there") {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// Receives the texts that are here.
    pub(crate) async fn texts(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Ok(received) = timeout(Duration::from_millis(20), self.received()).await {
            let Ok(Some(Message::Text(text))) = received else { panic!("{received:?}") };
            texts.push(text.to_string());
        }
        texts
    }
}

/// Checks that texts of the form `SENDER NUMBER` count up by one for each sender, and returns the last numbers.
pub(crate) fn in_order(texts: &[String]) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for text in texts {
        let (sender, number) = text.split_once(' ').expect("a sender and a number");
        let number: u64 = number.parse().expect("a number");
        let before = last.insert(sender.to_owned(), number);
        assert!(before.is_none_or(|before| before + 1 == number), "{text} after {before:?}");
    }
    last
}
