//! An in-memory transport for tests: deterministic, with faults, and with a record of its traffic.
//!
//! [`duplex`] creates two connected [`Pipe`]s that behave like the two ends of a TCP connection. A [`Faults`] plan
//! makes one end misbehave at a chosen operation, and a [`Tap`] watches and controls an end that a WebSocket owns.
//! Nothing here sleeps or generates randomness, so a test that fails once fails every time.
//!
//! The pipes carry bytes and know neither frames nor messages; [`pair`] puts a WebSocket on each.
//!
//! For tests of wake-ups, [`gated`] creates a transport that becomes ready during a chosen poll and keeps only the
//! last waker.
//!
//! # Every operation can fail
//!
//! Operations are counted, so a test can count the operations of a scenario and then make each of them fail in
//! turn:
//!
//! ```
//! use std::io::ErrorKind;
//! use longwire_connection::testing::{Faults, Operation, duplex};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! async fn greet(faults: Faults) -> (std::io::Result<()>, u64) {
//!     let (client, mut server) = duplex(64);
//!     let mut client = client.with_faults(faults);
//!     let tap = client.tap();
//!     let result = async {
//!         client.write_all(b"hello").await?;
//!         client.flush().await?;
//!         client.shutdown().await
//!     };
//!     let result = result.await;
//!     drop(client);
//!     let mut greeting = Vec::new();
//!     let _ = server.read_to_end(&mut greeting).await;
//!     (result, tap.counts().operations())
//! }
//!
//! let (result, operations) = greet(Faults::new()).await;
//! result?;
//! assert_eq!(operations, 3);
//! for k in 0..operations {
//!     let faults = Faults::new().fail_at(Operation::Any(k), ErrorKind::ConnectionReset);
//!     let (result, _) = greet(faults).await;
//!     assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset, "operation {k}");
//! }
//! # Ok(())
//! # }
//! ```

mod duplex;
mod faults;
mod gate;
mod link;
mod pair;
mod tap;
mod wire;

#[cfg(test)]
mod tests;

pub use self::duplex::{Pipe, duplex};
pub use self::faults::{Faults, Operation};
pub use self::gate::{Gate, Gated, gated};
pub use self::pair::{pair, pair_over, repeatable_keys};
pub use self::tap::{Counts, Tap};
