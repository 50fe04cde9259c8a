//! yawc, with the buffers of its own benchmark: 128 KiB to read, 64 KiB before it pushes back.

use std::process::ExitCode;

use longwire_bench_peers::{Feed, Step, Tuning, echo, serve};
use yawc::{OpCode, Options, Role, WebSocket};

fn main() -> ExitCode {
    serve(|stream, options| async move {
        let config = Options::default()
            .without_compression()
            .with_no_delay()
            .with_utf8()
            .with_limits(64 << 20, 64 << 20);
        let config = match options.tuning {
            Tuning::Speed => {
                config.with_read_buffer_capacity(128 * 1024).with_backpressure_boundary(64 * 1024)
            }
            Tuning::Memory => config.with_read_buffer_capacity(1024).with_write_buffer_capacity(1024),
        };
        let ws = WebSocket::from_stream(stream, Role::Server, config)?;
        echo(ws, options.batch, Feed::AtOnce, |frame| {
            Ok(match frame.opcode() {
                OpCode::Text | OpCode::Binary => Step::Echo(frame),
                OpCode::Close => Step::End,
                _ => Step::Skip,
            })
        })
        .await
    })
}
