//! Finding out by hand that a client has gone without a word. A server does so by itself: this is how, should it be done
//! otherwise.
//!
//! ```text
//! cargo run --release --example heartbeat -- 127.0.0.1:8080
//! ```
//! The address may be left out.

use std::time::Duration;

use longwire::Incoming;

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = longwire::Server::bind(addr).await?.configure(|config| config.connection.keepalive = None);
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, _request| async move {
        let mut every = tokio::time::interval(Duration::from_secs(30));
        let mut is_alive = true;
        loop {
            tokio::select! {
                event = ws.next_event() => match event? {
                    Some(Incoming::Pong(_)) => is_alive = true,
                    Some(_) => {}
                    None => return Ok(()),
                },
                _ = every.tick() => {
                    if !std::mem::replace(&mut is_alive, false) {
                        println!("client {} is gone", ws.id());
                        ws.abort();
                        return Ok(());
                    }
                    let _pong = ws.ping()?;
                }
            }
        }
    });
    serving.await
}
