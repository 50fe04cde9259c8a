//! Connected WebSocket clients as a whole: registry, rooms, fan-out, policies, limits and shutdown.
//!
//! A [`Hub`] knows every client that was admitted to it, wherever the connection came from: longwire's own server, hyper
//! or a stream of yours. [`Hub::run`] runs a handler on a connection for as long as it lasts; [`Hub::admit`] registers a
//! socket that you drive yourself. Broadcasts frame a message once and never wait: a client that does not take its
//! messages meets the [`SlowPolicy`], and nobody else notices.
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
//!         ws.hub().broadcast(message); // to everybody, the client itself included
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
//! A [`Room`] is there while somebody is in it. What it costs to send to depends on how many are.
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
//! # Who may be slow
//!
//! | to | use |
//! |---|---|
//! | send to all, and let nobody wait | [`Hub::broadcast`], [`Hub::publish`], and a [`SlowPolicy`] for all or for one |
//! | send to all, and wait for each by itself | [`Hub::broadcast_waiting`], [`Hub::publish_waiting`] |
//! | send to one, and know whether it got there | [`Client::send`] |
//!
//! # Many clients
//!
//! No lock of the hub is held while it goes over all clients: others join, leave and send meanwhile. With 100 000 of them
//!
//! | call | takes | holds its thread |
//! |---|---|---|
//! | [`Hub::broadcast`] | 41 ms | all the time |
//! | [`Hub::broadcast_waiting`] | 44 ms | 60 µs for 256 clients at a time, then it yields |
//! | [`Hub::shutdown`] | | for 256 clients at a time |
//! | [`Hub::traffic`] | 19 ms | all the time |
//! | [`Hub::clients`] after somebody has joined or left | 8 ms | all the time, the registry's lock for 256 clients at a time |
//! | [`Hub::stats`], [`Hub::len`] | less than 1 µs | |
//!
//! and beside any of these it takes a client 1 to 2 µs to join and leave (the median; 16 µs for 99 of 100). Measured with
//! `cargo test --release -p longwire-hub --test many -- --ignored --nocapture` on two cores that others used too, with connections
//! that take everything at once: a system call for each is added to a broadcast, for as many as tokio lets a task write to in its
//! turn. A task that has other things to do, or shares its thread with tasks that have, sends to this many with
//! `broadcast_waiting` and a wait of zero.
//!
//! # Metrics
//!
//! With the feature `metrics` a hub passes what it counts on to the recorder of the crate of that name:
//!
//! | counter | labels | counts |
//! |---|---|---|
//! | `longwire_connections_opened_total` | | clients that were admitted |
//! | `longwire_connections_closed_total` | `code` | clients that have left; 3000 to 3999 are `3xxx`, 4000 to 4999 `4xxx` |
//! | `longwire_connections_refused_total` | | clients that were not admitted because of a limit on how many there may be |
//! | `longwire_slow_clients_closed_total` | | clients that were closed for being slow |
//! | `longwire_broadcasts_dropped_total` | | copies of broadcast messages that a slow client did not get |
//! | `longwire_messages_received_total`, `longwire_messages_sent_total` | | messages |
//! | `longwire_bytes_received_total`, `longwire_bytes_sent_total` | | bytes on the wire |
//!
//! The last four grow whenever `Hub::report_traffic` is called; longwire's own server does that every 10 s.

#![forbid(unsafe_code)]

mod broadcast;
mod client;
mod config;
mod entry;
mod error;
mod hub;
mod leaving;
mod limits;
mod members;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
mod room;
mod rooms;
mod shutdown;
mod socket;
mod stats;
mod traffic;
mod waiting;

pub use broadcast::Delivery;
pub use client::{Client, ClientId, ClientInfo};
pub use config::{HubConfig, SlowPolicy};
pub use error::{HubError, RunError};
pub use hub::Hub;
pub use limits::Place;
pub use room::Room;
pub use shutdown::{Drained, Farewell};
pub use socket::{Receiver, Socket};
pub use stats::{ClientStats, HubStats};
