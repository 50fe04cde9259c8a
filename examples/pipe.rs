//! Sends standard input as messages, and writes messages to standard output: the connection as a byte stream.
//!
//! ```text
//! cargo run --release --example pipe -- ws://127.0.0.1:9001 < FILE > COPY
//! ```
//! The URL is optional. At the end of the input, it closes the connection and prints what still arrives; if the
//! server closes first, it exits at once. The exit status is 0 if the connection was closed with code 1000, 1001 or
//! none, and 1 otherwise.

use std::io;

use longwire::connection::Error;
use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};

#[tokio::main]
async fn main() {
    let status = match run().await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("pipe: {error}");
            1
        }
    };
    // The server may have closed first, and a read of standard input cannot be canceled: this does not wait for it.
    std::process::exit(status)
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    let ws = longwire::connect(url).await?;
    let sender = ws.sender();
    let (mut from, mut to) = split(ws.into_byte_stream());
    let sending = tokio::spawn(async move {
        let copied = copy(&mut stdin(), &mut to).await;
        // This direction has ended. `shutdown` would discard the bytes that still arrive in the other.
        match sender.start_close(1000, "") {
            // The server may have closed at the same time.
            Ok(()) | Err(Error::Closed) => copied,
            Err(error) => Err(io::Error::other(error)),
        }
    });
    let mut stdout = stdout();
    let copied = copy(&mut from, &mut stdout).await;
    // The bytes received before an error are not lost.
    stdout.flush().await?;
    copied?;
    if sending.is_finished() {
        sending.await??;
    }
    Ok(())
}
