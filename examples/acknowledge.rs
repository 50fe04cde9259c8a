//! Knowing what became of a message. The server is to echo.
//!
//! ```text
//! cargo run --release --example acknowledge -- ws://127.0.0.1:9001
//! ```
//! The URL may be left out.

use longwire::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    let ws = longwire::connect(url).await?;
    // Something has to receive, for pongs and the end to be seen.
    let (sender, mut receiver) = ws.split();
    let receiving = tokio::spawn(async move {
        while receiver.recv().await?.is_some() {}
        Ok::<_, Error>(())
    });

    // Every error is returned here, none is thrown later: this one has been passed to the system, whole.
    sender.send_flushed("something").await?;
    println!("sent");
    // The pong to a ping behind it says that the peer has read it.
    println!("read by the peer, {:?} later", sender.ping()?.await?);
    sender.close(1000, "")?;
    receiving.await??;

    // What a caller may want to tell apart:
    match sender.send("something").await {
        Ok(()) => println!("it will be written"),
        Err(Error::Closed) => println!("not sent: the connection was closed before"),
        Err(Error::Io(error)) => println!("the connection failed, and the message may be lost: {error}"),
        Err(error) => println!("not sent: {error}"),
    }
    Ok(())
}
