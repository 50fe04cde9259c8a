//! tokio-tungstenite, with a read buffer of 16 KiB: it zeroes the default of 128 KiB before every read.

use std::process::ExitCode;

use longwire_bench_peers::{Feed, Step, Tuning, echo, serve};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let read_len = if options.tuning == Tuning::Speed { 16 * 1024 } else { 1024 };
        let config = WebSocketConfig::default().read_buffer_size(read_len);
        let ws = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        echo(ws, options.batch, Feed::AtTheEnd, |message| {
            let message = message?;
            Ok(if message.is_text() || message.is_binary() { Step::Echo(message) } else { Step::Skip })
        })
        .await
    })
}
