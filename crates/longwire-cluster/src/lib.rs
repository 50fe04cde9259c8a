//! Rooms of WebSocket clients over several nodes, linked by a message broker.
//!
//! [`Cluster::join`] links a [`Hub`](longwire_hub::Hub) with the hubs of other processes. Handlers stay as they are:
//! `join`, `publish`, `broadcast` and `send_to` reach the clients of all nodes.
//!
//! ```
//! use longwire_cluster::{Cluster, ClusterOptions, Memory};
//! use longwire_connection::{Config, testing::pair};
//! use longwire_hub::{ClientInfo, Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Memory::new();
//! let (one, other) = (Hub::default(), Hub::default());
//! let cluster = Cluster::join(&one, broker.clone(), ClusterOptions::default()).await?;
//! let far_cluster = Cluster::join(&other, broker, ClusterOptions::default()).await?;
//!
//! let (mut far, server) = pair(Config::default());
//! let socket = other.admit(server, ClientInfo::default())?;
//! socket.join("tea")?;
//! far_cluster.subscribed("tea").await?;
//!
//! one.publish("tea", "from the other node");
//! assert_eq!(far.recv().await?, Some("from the other node".into()));
//! assert_eq!(cluster.count("tea").await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! Use it when one machine is not enough, or must not be the only one. Several hubs of one process are better replaced
//! by one hub; and a hub that is alone needs none of this.
//!
//! # What reaches whom
//!
//! | call | reaches |
//! |---|---|
//! | `broadcast`, `broadcast_except`, `broadcast_waiting`, `broadcast_latest` | the clients of all nodes |
//! | `publish`, `publish_except`, `publish_waiting`, `publish_latest` | the clients in the room, on all nodes |
//! | `send_to` | the clients with the key, on all nodes |
//! | `publish_local`, `broadcast_local`, `publish_prepared`, `broadcast_prepared` | those of this node |
//!
//! The clients of this node get a message as without a cluster, at once, and the call returns what happened to these.
//! Then the message goes to the broker, once, in a binary envelope; a node that receives it frames and compresses it
//! once for all its clients. A node subscribes to a room while it has a client in it, and for
//! [`ClusterOptions::linger`] longer; of other rooms it receives nothing.
//!
//! # Order and loss
//!
//! The messages of one node to one room arrive in order at the clients of every other node, each at most once. Between
//! the messages of several nodes there is no order, and two clients may see them differently.
//!
//! Without a [history](#history), nothing is repeated. Each of these losses is a [`ClusterEvent::Gap`] on the nodes
//! whose clients missed something, a message to the clients in a room if [`ClusterOptions::with_gap_message`] makes
//! one, and counted in [`ClusterStats::gaps`]:
//!
//! | cause | noticed by |
//! |---|---|
//! | the broker is away, or restarts | each node that has lost it: a gap in each of its rooms once it is back |
//! | the broker or the network stops without a word | a check each five seconds, or each third of a lease |
//! | a node publishes more than the broker takes ([`ClusterOptions::outbox`]) | its next message, or its word |
//! | a node's clients are served more slowly than messages arrive ([`ClusterOptions::inbox`]) | that node |
//! | the broker drops messages for a slow node | the broker's client, or the number of the next message |
//! | a message is larger than what the broker takes | the node that publishes it |
//!
//! A message that was the last of its node in a room, and that the broker has lost without losing the connection, is
//! noticed with the next one. The same is true of a client that enters or leaves a room, and of a message that was
//! handed to one server of several, which is lost before it reaches the others. Losses that follow a reported gap,
//! before the next message of the same node in the same room, belong to it. A gap may be reported although nothing was
//! lost: always if a node sends to more than 128 Ki rooms and keys in turn, because it does not remember them all.
//!
//! # History
//!
//! With [`ClusterOptions::with_history`], the broker keeps the last messages of each room, bounded by their number and
//! age. Then these things differ, for rooms only:
//!
//! - A message is delivered as the broker gives it back, also to the clients of the node that publishes it. `publish`
//!   and its relatives return a [`Delivery`](longwire_hub::Delivery) of zeros, and the clients of all nodes get the
//!   messages of a room in one order.
//! - Each message has a [`Position`], which [`ClusterOptions::with_history_message`] can put into what clients get.
//! - A client joins by [`Cluster::join_since`], and gets what was published after its position, or learns that this is
//!   not there any more. One that joins by itself, with `join`, gets what is published from some moment after that on:
//!   once the node has subscribed to the room, and knows its position.
//! - While the broker is away, nothing is delivered in rooms. What is published waits, up to [`ClusterOptions::outbox`]
//!   bytes, and is handed over when it is back, once each. What a node has missed, it fetches. A [`ClusterEvent::Gap`]
//!   of a room means a loss for good: more was missed than is kept, the broker has lost its history, or a publishing
//!   node could not keep what waited. The last of these is a part of the history, so that all learn of it in its place,
//!   also those that join later.
//! - A message that the broker has not confirmed 96 s after the first attempt to hand it over, or after four fifths of
//!   the history's age if that is less, may be there or not. It is not repeated, and there is a gap in its place. If
//!   the history's age is a few seconds, a short outage is enough.
//!
//! `broadcast` and `send_to` are as without a history.
//!
//! # Who is there
//!
//! [`Cluster::members`] and [`Cluster::count`] say who is in a room, on all nodes, and [`Cluster::events`] tells of
//! changes in the rooms in which this node has clients. Nodes send each other the changes, numbered; a node that has
//! missed one asks for the whole list. The clients of a node that dies are gone after one
//! [lease](field@ClusterOptions::lease), those of a node that leaves at once.
//!
//! # Brokers
//!
//! | broker | feature | type |
//! |---|---|---|
//! | NATS | `nats` | [`Nats`](https://docs.rs/longwire-cluster/latest/longwire_cluster/struct.Nats.html) |
//! | Redis, Valkey | `redis` | [`Redis`](https://docs.rs/longwire-cluster/latest/longwire_cluster/struct.Redis.html) |
//! | none, within the process, for tests | | [`Memory`] |
//!
//! Without a history, the broker keeps no messages: what is published while a node is away never reaches it. Implement
//! [`Backplane`] for other brokers.
//!
//! # Metrics
//!
//! [`Cluster::stats`] returns all counts in one value. With the feature `metrics`, they also go to the recorder of the
//! `metrics` crate, every 10 s, and when the node leaves:
//!
//! | metric | kind | is |
//! |---|---|---|
//! | `longwire_cluster_messages_published_total`, `longwire_cluster_bytes_published_total` | counter | [`published`](ClusterStats::published), [`published_bytes`](ClusterStats::published_bytes) |
//! | `longwire_cluster_messages_received_total`, `longwire_cluster_bytes_received_total` | counter | [`received`](ClusterStats::received), [`received_bytes`](ClusterStats::received_bytes) |
//! | `longwire_cluster_messages_lost_total` | counter | [`lost`](ClusterStats::lost) |
//! | `longwire_cluster_messages_overflowed_total` | counter | [`overflowed`](ClusterStats::overflowed) |
//! | `longwire_cluster_messages_malformed_total` | counter | [`malformed`](ClusterStats::malformed) |
//! | `longwire_cluster_gaps_total` | counter | [`gaps`](ClusterStats::gaps) |
//! | `longwire_cluster_outages_total` | counter | [`outages`](ClusterStats::outages) |
//! | `longwire_cluster_nodes` | gauge | [`nodes`](ClusterStats::nodes); 0 once the node has left |
//! | `longwire_cluster_subscriptions` | gauge | [`subscriptions`](ClusterStats::subscriptions); 0 once the node has left |
//!
//! Call `Cluster::report_stats` before the recorder is read, to have them up to then. If several hubs of one process
//! are in clusters, the metrics are their sums.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod appends;
mod backplane;
#[cfg(any(feature = "nats", feature = "redis"))]
mod broker;
mod bundle;
mod catch_up;
mod channel;
mod cluster;
mod envelope;
mod farewell;
mod history;
mod interest;
mod join;
mod link;
mod memory;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
#[cfg(feature = "nats")]
mod nats;
mod node;
mod options;
mod order;
mod outbox;
mod presence;
#[cfg(feature = "redis")]
mod redis;
mod stats;
mod timeline;
#[cfg(all(feature = "tls", any(feature = "nats", feature = "redis")))]
mod tls;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::Redis;
pub use appends::Append;
pub use backplane::{Backplane, BackplaneError, BoxFuture, Inbox};
#[cfg(any(feature = "nats", feature = "redis"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "nats", feature = "redis"))))]
pub use broker::BrokerOptions;
pub use channel::{Channel, NodeId};
pub use cluster::{Cluster, ClusterError, ClusterEvent, ClusterEvents, ClusterState, Gap, Member, NodeInfo};
pub use history::{History, Past, Position, PositionError, Record};
pub use join::Joined;
pub use memory::Memory;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub use nats::Nats;
pub use options::ClusterOptions;
pub use stats::ClusterStats;
