//! A server that sends binary data, five numbers of four bytes each, and adds up the numbers it receives.
//!
//! ```text
//! cargo run --release --example binary_server -- 127.0.0.1:8080
//! ```
//! The address is optional. In a browser: `new Float32Array(await event.data.arrayBuffer())`.

use longwire::Message;

#[tokio::main]
async fn main() -> Result<(), longwire::server::Error> {
    let addr = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let server = longwire::Server::bind(addr).await?;
    println!("listening on ws://{}", server.local_addr());
    let serving = server.serve(|mut ws, _request| async move {
        let numbers = [0.0_f32, 0.5, 1.0, 1.5, 2.0];
        ws.send(numbers.map(f32::to_le_bytes).as_flattened().to_vec()).await?;
        while let Some(message) = ws.recv().await? {
            if let Message::Binary(bytes) = message {
                let (numbers, rest) = bytes.as_chunks::<4>();
                let sum: f32 = numbers.iter().map(|number| f32::from_le_bytes(*number)).sum();
                ws.send(format!("{} numbers, sum {sum}, {} bytes left over", numbers.len(), rest.len()))
                    .await?;
            }
        }
        Ok(())
    });
    serving.await
}
