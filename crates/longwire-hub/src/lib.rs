//! Connected WebSocket clients as a whole: registry, broadcast, slow-client policy and shutdown.
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

#![forbid(unsafe_code)]

mod broadcast;
mod client;
mod config;
mod entry;
mod error;
mod hub;
mod limits;
mod members;
mod room;
mod rooms;
mod shutdown;
mod socket;
mod stats;
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
