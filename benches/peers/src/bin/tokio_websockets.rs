//! tokio-websockets, with the limits and the frame size of its own echo example.
//!
//! It flushes when it is polled for a message, and by default from 8 KiB on. The whole batch is therefore taken
//! before it is fed, and may be 64 KiB long.

use std::process::ExitCode;

use longwire_bench_peers::{Feed, Step, echo, serve};
use tokio_websockets::{Config, Limits, ServerBuilder};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let ws = ServerBuilder::new()
            .config(Config::default().frame_size(usize::MAX).flush_threshold(64 * 1024))
            .limits(Limits::unlimited())
            .serve(stream);
        echo(ws, options.batch, Feed::AtTheEnd, |message| {
            let message = message?;
            Ok(if message.is_text() || message.is_binary() { Step::Echo(message) } else { Step::Skip })
        })
        .await
    })
}
