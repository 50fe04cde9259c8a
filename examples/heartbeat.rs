//! Finding out by hand that a client has gone without a word. A server does so by itself: this is how, should it be done
//! otherwise.
//!
//! ```text
//! cargo run --release --example heartbeat -- 127.0.0.1:8080
//! ```
//! The address may be left out.

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
                    sender.abort(); // that no ping survives
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        while ws.recv().await?.is_some() {}
        Ok(())
    });
    serving.await
}
