//! A server that sends a greeting and prints the messages it receives.
//!
//! ```text
//! cargo run --release --example text_server -- 127.0.0.1:8080
//! ```
//! The address is optional.

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let server = longwire::Server::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into())).await?;
    let serving = server.serve(|mut ws, _request| async move {
        ws.send("something").await?;
        while let Some(message) = ws.recv().await? {
            println!("received: {message}");
        }
        Ok(())
    });
    serving.await
}
