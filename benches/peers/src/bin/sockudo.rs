//! sockudo-ws, without the timers for idle connections, for which it reads the clock.

use std::process::ExitCode;

use longwire_bench_peers::{Feed, Step, echo, serve};
use sockudo_ws::{CompressedWebSocketStream, Config, DeflateConfig, Message, WebSocketStream};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let config = Config::builder().auto_ping(false).idle_timeout(0).write_coalescing(true).build();
        if !options.deflate {
            let ws = WebSocketStream::server(stream, config);
            return echo(ws, options.batch, Feed::AtTheEnd, |message| Ok(step(message?))).await;
        }
        let window = options.window_bits.try_into()?;
        let deflate = DeflateConfig {
            server_max_window_bits: window,
            client_max_window_bits: window,
            server_no_context_takeover: options.no_context_takeover,
            client_no_context_takeover: options.no_context_takeover,
            compression_level: options.level.into(),
            compression_threshold: 0,
        };
        let ws = CompressedWebSocketStream::server(stream, config, deflate);
        echo(ws, options.batch, Feed::AtTheEnd, |message| Ok(step(message?))).await
    })
}

fn step(message: Message) -> Step<Message> {
    match message {
        message @ (Message::Text(_) | Message::Binary(_)) => Step::Echo(message),
        Message::Close(_) => Step::End,
        _ => Step::Skip,
    }
}
