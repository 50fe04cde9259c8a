//! Finds out what happened to a message. The server must echo messages.
//!
//! ```text
//! cargo run --release --example acknowledge -- ws://127.0.0.1:9001
//! ```
//! The URL is optional.

use longwire::connection::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    let ws = longwire::connect(url).await?;
    // Pongs and the end of the connection are only noticed while a task receives.
    let (sender, mut receiver) = ws.split();
    let receiving = tokio::spawn(async move {
        while receiver.recv().await?.is_some() {}
        Ok::<_, Error>(())
    });

    // All errors are returned here; none is reported later. On success, the system has taken the whole message.
    sender.send_flushed("something").await?;
    println!("sent");
    // The pong to a ping sent after the message shows that the peer has read it.
    println!("read by the peer, {:?} later", sender.ping()?.await?);
    sender.start_close(1000, "")?;
    receiving.await??;

    // The outcomes that a caller may want to distinguish:
    match sender.send("something").await {
        Ok(()) => println!("it will be written"),
        Err(Error::Closed) => println!("not sent: the connection was closed before"),
        Err(Error::Io(error)) => println!("the connection failed, and the message may be lost: {error}"),
        Err(error) => println!("not sent: {error}"),
    }
    Ok(())
}
