//! Sends numbers as a binary message: 32 bits each, in little-endian byte order. The server must echo it.
//!
//! ```text
//! cargo run --release --example binary -- ws://127.0.0.1:9001
//! ```
//! The URL is optional.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    let mut ws = longwire::connect(url).await?;

    let array = [0.0_f32, 0.5, 1.0, 1.5, 2.0];
    ws.send(array.map(f32::to_le_bytes).concat()).await?;

    if let Some(message) = ws.recv().await? {
        let (numbers, _rest) = message.as_bytes().as_chunks();
        let numbers: Vec<f32> = numbers.iter().copied().map(f32::from_le_bytes).collect();
        println!("{numbers:?}");
    }
    Ok(ws.close(1000, "").await?)
}
