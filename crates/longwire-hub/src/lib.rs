//! A hub of connected WebSocket clients: registry, rooms, fan-out, policies, limits and shutdown.
//!
//! A [`Hub`] knows every client that was admitted to it, wherever the connection came from: longwire's own
//! server, hyper, or a stream of yours. [`Hub::run`] runs a handler on a connection until it ends; [`Hub::admit`]
//! registers a socket that you drive yourself. A broadcast frames its message once and never waits: the
//! [`SlowPolicy`] decides what happens to a client that does not keep up, and no other client is affected.
//!
//! ```
//! use longwire_connection::{Config, Error, testing::pair};
//! use longwire_hub::{ClientInfo, Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let hub = Hub::default();
//! let (mut client, server) = pair(Config::default());
//! tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
//!     while let Some(message) = ws.recv().await? {
//!         ws.hub().broadcast(message); // to every client, including the sender
//!     }
//!     Ok::<_, Error>(())
//! }));
//!
//! client.send("hello").await?;
//! assert_eq!(client.recv().await?, Some("hello".into()));
//! client.close(1000, "").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Rooms
//!
//! A [`Room`] exists while a client is in it. The cost of sending to it depends on the number of clients in it.
//!
//! ```
//! use longwire_connection::{Config, Error, testing::pair};
//! use longwire_hub::{ClientInfo, Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::default();
//! let (mut client, server) = pair(Config::default());
//! tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
//!     while let Some(message) = ws.recv().await? {
//!         let room = message.as_text().unwrap_or("lobby");
//!         if ws.join(room).is_ok() {
//!             ws.hub().publish(room, format!("client {} is in {room}", ws.id()));
//!         }
//!     }
//!     Ok::<_, Error>(())
//! }));
//!
//! client.send("tea").await?;
//! assert_eq!(client.recv().await?, Some("client 1 is in tea".into()));
//! client.close(1000, "").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Slow clients
//!
//! | to | use |
//! |---|---|
//! | send to all without waiting | [`Hub::broadcast`], [`Hub::publish`], and a [`SlowPolicy`] for all or for one |
//! | send to all, waiting for each independently | [`Hub::broadcast_waiting`], [`Hub::publish_waiting`] |
//! | send to one, and learn whether the message was written | [`ClientHandle::send`] |
//! | send to the sockets of one user | [`ClientHandle::set_key`], [`Hub::send_to`] |
//! | send values of which only the latest matters | [`Hub::publish_latest`] |
//!
//! # Turns
//!
//! A message that is broadcast or published is queued for every client by the call. In a handler that the hub or a
//! server runs, it is written at the end of the handler's turn, which is its next `.await` that does not complete at
//! once: each client is written to once for all messages of the turn, with one system call. Nothing is lost if the
//! handler ends, fails, panics or is dropped. Within tokio's budget, a client with 16 KiB of queued messages is
//! written to earlier than that, and so is one whose queue is full. A message that is followed by an abort in the
//! same turn may be lost.
//!
//! A handler that blocks its thread after it has published also holds up these messages. Use `spawn_blocking` or
//! publish from another task.
//!
//! Any other task, and a thread without a runtime, writes with the call. A task that has used up tokio's budget, which
//! is 128 writes, only queues its messages, and they are written once it yields. The message of a single call is
//! therefore not delayed, and the messages of many calls in a row to many clients reach each in two or three writes.
//!
//! At the end of a turn, 128 clients are written to. The rest is left to a task of the runtime in which the clients
//! were admitted, which yields after each 128; on a runtime with several threads there may be one such task for each
//! thread.
//!
//! # Many clients
//!
//! The hub holds no lock while it goes over all clients: others join, leave and send meanwhile. With 100 000 clients:
//!
//! | call | takes | holds its thread |
//! |---|---|---|
//! | [`Hub::broadcast`] | 41 ms | throughout |
//! | [`Hub::broadcast_waiting`] | 44 ms | 60 µs for 256 clients at a time, then it yields |
//! | [`Hub::shutdown`] | | for 256 clients at a time |
//! | [`Hub::traffic`] | 19 ms | throughout |
//! | [`Hub::clients`] after a client has joined or left | 8 ms | throughout |
//! | [`Hub::stats`], [`Hub::len`] | less than 1 µs | |
//!
//! While any of these calls runs, a client joins and leaves in 1 to 2 µs (the median; 16 µs for 99 of 100). This
//! was measured with `cargo test --release -p longwire-hub --test many -- --ignored --nocapture` on two cores
//! shared with other programs, and with connections that accept everything at once. On a real connection, a
//! broadcast also makes a system call for each client: in a turn or a task, 128 in a row as described above. A task
//! that has other work, or shares its thread with tasks that do, should send to this many clients with
//! `broadcast_waiting` and a wait of zero: then other tasks run after each 256 clients.
//!
//! # Metrics
//!
//! With the feature `metrics`, a hub reports its counts to the recorder of the `metrics` crate:
//!
//! | counter | labels | counts |
//! |---|---|---|
//! | `longwire_connections_opened_total` | | clients that were admitted |
//! | `longwire_connections_closed_total` | `code` | clients that left; 3000 to 3999 as `3xxx`, 4000 to 4999 as `4xxx` |
//! | `longwire_connections_refused_total` | | clients that were not admitted because of a limit on their number |
//! | `longwire_slow_clients_closed_total` | | clients that were closed for being slow |
//! | `longwire_broadcasts_dropped_total` | | copies of broadcast messages that slow clients did not get |
//! | `longwire_messages_received_total`, `longwire_messages_sent_total` | | messages |
//! | `longwire_bytes_received_total`, `longwire_bytes_sent_total` | | bytes on the wire |
//!
//! The last four counters grow whenever `Hub::report_traffic` is called; longwire's own server reports every 10 s.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod admission;
mod broadcast;
mod census;
mod client;
mod config;
mod conflate;
mod data;
mod departed;
mod entry;
mod error;
mod handler;
mod id;
mod info;
#[cfg(feature = "json")]
mod json;
mod keys;
mod latest;
mod leaving;
mod members;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
#[cfg(all(test, longwire_loom))]
mod models;
#[cfg_attr(not(feature = "cluster"), allow(unreachable_pub, reason = "with the feature, it is reachable"))]
mod publication;
mod registry;
mod reservation;
mod room;
mod rooms;
mod shutdown;
mod socket;
mod stats;
mod sync;
mod traffic;
mod turn;
#[cfg(feature = "cluster")]
mod uplink;
#[cfg(not(feature = "cluster"))]
#[path = "no_uplink.rs"]
mod uplink;
mod waiting;

pub use broadcast::Delivery;
pub use config::{HubConfig, SlowPolicy};
#[doc(hidden)]
pub use data::ClientData;
pub use entry::ClientHandle;
pub use error::{HubError, RunError};
#[doc(hidden)]
pub use handler::Handling;
pub use handler::{HandlerOutput, HandlerResult};
pub use id::ClientId;
pub use info::ClientInfo;
pub use longwire_connection::BoxError;
#[cfg(feature = "cluster")]
#[doc(hidden)]
pub use publication::{Published, Target};
pub use registry::Hub;
pub use reservation::Reservation;
pub use room::Room;
pub use shutdown::{Drained, Shutdown};
pub use socket::{Socket, SocketReceiver};
pub use stats::{ClientStats, HubStats};
#[cfg(feature = "cluster")]
#[doc(hidden)]
pub use uplink::Uplink;
