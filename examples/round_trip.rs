//! Measures the round trip of a message to an echo server, twice a second.
//!
//! ```text
//! cargo run --release --example round_trip -- [--count N] [ws://127.0.0.1:9001]
//! ```

use std::time::{Duration, Instant};

use clap::Parser;
use longwire::Client;

#[derive(Parser)]
struct Args {
    #[arg(default_value = "ws://127.0.0.1:9001")]
    url: String,
    /// The number of messages to send. Default: no limit.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    count: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let (mut ws, _response) = Client::new(args.url).origin("https://example.com").connect().await?;
    println!("connected");
    for n in 0..args.count {
        let sent = Instant::now();
        ws.send(n.to_string()).await?;
        let Some(_echo) = ws.recv().await? else { break };
        println!("round trip: {:?}", sent.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ws.close(1000, "").await?;
    println!("disconnected");
    Ok(())
}
