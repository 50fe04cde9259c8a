//! Connects to an echo server through a proxy.
//!
//! ```text
//! cargo run --release --example proxy -- http://user:password@127.0.0.1:3128 wss://example.com/
//! ```
//! With `socks5h://`, a SOCKS 5 proxy resolves the name; with `socks5://`, the client does. User and password are
//! optional.

use longwire::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(proxy), Some(url)) = (args.next(), args.next()) else {
        return Err("usage: proxy PROXY URL".into());
    };
    let (mut ws, _response) = Client::new(url).proxy(proxy).connect().await?;
    println!("connected");
    ws.send("through the proxy").await?;
    if let Some(message) = ws.recv().await? {
        println!("{message}");
    }
    Ok(ws.close(1000, "").await?)
}
