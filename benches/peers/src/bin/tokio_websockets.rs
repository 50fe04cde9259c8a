//! tokio-websockets, with the limits and the frame size of its own echo benchmark.

use std::process::ExitCode;

use longwire_bench_peers::{Step, echo, serve};
use tokio_websockets::{Config, Limits, ServerBuilder};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let ws = ServerBuilder::new()
            .config(Config::default().frame_size(usize::MAX))
            .limits(Limits::unlimited())
            .serve(stream);
        echo(ws, options.batch, |message| {
            let message = message?;
            Ok(if message.is_text() || message.is_binary() { Step::Echo(message) } else { Step::Skip })
        })
        .await
    })
}
