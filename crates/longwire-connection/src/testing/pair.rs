//! Two connected sockets without a network.

use std::cell::Cell;

use longwire_protocol::MaskingKey;

use super::{Pipe, duplex};
use crate::{Config, Handover, WebSocket};

/// Creates a client and a server that are connected in memory.
///
/// Each direction holds 64 KiB. Under `#[tokio::test(start_paused = true)]`, keepalives and deadlines pass in
/// virtual time. For faults, [`pair_over`] accepts pipes of any configuration.
///
/// # Examples
///
/// ```
/// use longwire_connection::{Config, testing::pair};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), longwire_connection::Error> {
/// let (mut client, mut server) = pair(Config::default());
/// client.send("ping?").await?;
/// assert_eq!(server.recv().await?, Some("ping?".into()));
/// # Ok(())
/// # }
/// ```
#[allow(clippy::needless_pass_by_value, reason = "a test makes it for this call")]
pub fn pair(config: Config) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    let (client, server) = duplex(64 * 1024);
    pair_over(client, server, &config)
}

/// Creates a client from one pipe and a server from the other.
pub fn pair_over(client: Pipe, server: Pipe, config: &Config) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    (
        WebSocket::new(client, Handover::client(repeatable_keys), config),
        WebSocket::new(server, Handover::server(), config),
    )
}

/// Returns masking keys that differ from frame to frame and are the same in every run of a thread's first test. For
/// tests only: anyone who knows one key knows the next.
pub fn repeatable_keys() -> MaskingKey {
    thread_local! {
        static LAST: Cell<u32> = const { Cell::new(0x9e37_79b9) };
    }
    LAST.with(|last| {
        let mut key = last.get();
        key ^= key << 13;
        key ^= key >> 17;
        key ^= key << 5;
        last.set(key);
        MaskingKey::new(key.to_be_bytes())
    })
}
