//! Graceful shutdown: on SIGINT the server accepts no new clients, tells every client why it closes and when to
//! come back, and drops the clients that have not left by a deadline.
//!
//! ```text
//! cargo run --release --example graceful_shutdown -- 127.0.0.1:8080
//! ```
//! The address is optional. The close frames are spread over half a second: ten thousand clients that all come back
//! at once would be a burden on the next server.

use std::time::Duration;

use longwire::CloseCode;
use longwire::Shutdown;

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = longwire::Server::bind(addr).await?.configure(|config| {
        config.shutdown = Shutdown::default()
            .with_code(CloseCode::SERVICE_RESTART)
            .with_reason("back in a minute")
            .with_deadline(Duration::from_secs(5))
            .with_spread(Duration::from_millis(500));
    });
    println!("listening on ws://{}", server.local_addr());
    let hub = server.hub().clone();
    let serving = server.serve(|mut ws, _request| async move {
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        println!("client {} has left", ws.id());
        Ok(())
    });
    serving.with_graceful_shutdown(tokio::signal::ctrl_c()).await?;
    println!("{} clients in total, none left: {}", hub.stats().admitted, hub.is_empty());
    Ok(())
}
