//! sockudo-ws, without the timers for idle connections that it reads the clock for.

use std::process::ExitCode;

use longwire_bench_peers::{Feed, Step, echo, serve};
use sockudo_ws::{Config, Message, WebSocketStream};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let config = Config::builder().auto_ping(false).idle_timeout(0).write_coalescing(true).build();
        let ws = WebSocketStream::server(stream, config);
        echo(ws, options.batch, Feed::AtTheEnd, |message| {
            Ok(match message? {
                message @ (Message::Text(_) | Message::Binary(_)) => Step::Echo(message),
                Message::Close(_) => Step::End,
                _ => Step::Skip,
            })
        })
        .await
    })
}
