//! Detecting by hand that a client has disappeared without closing. A server does so by default (`Keepalive`); this
//! is a starting point for doing it differently.
//!
//! ```text
//! cargo run --release --example heartbeat -- 127.0.0.1:8080
//! ```
//! The address is optional.

use std::time::Duration;

const EVERY: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = longwire::Server::bind(addr).await?.configure(|config| config.connection.keepalive = None);
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, _request| async move {
        let sender = ws.sender();
        tokio::spawn(async move {
            while let Ok(pong) = sender.ping() {
                if tokio::time::timeout(EVERY, pong).await.is_err() {
                    sender.abort(); // the next ping fails
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        while ws.recv().await?.is_some() {}
        Ok(())
    });
    serving.await
}
