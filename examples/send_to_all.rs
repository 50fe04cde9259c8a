//! Sends to all clients, and to all except the sender of a message.
//!
//! ```text
//! cargo run --release --example send_to_all -- 127.0.0.1:8080
//! ```
//! The address is optional.

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = longwire::Server::bind(addr).await?;
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, _request| async move {
        ws.hub().broadcast(format!("client {} is here", ws.id()));
        while let Some(message) = ws.recv().await? {
            ws.hub().broadcast_except(ws.id(), message);
        }
        Ok(())
    });
    serving.await
}
