//! yawc, with the buffers of its own benchmark: 128 KiB to read, 64 KiB before it applies back-pressure.

use std::{process::ExitCode, sync::OnceLock};

use longwire_bench_peers::{Feed, Step, Tuning, echo, serve};
use yawc::{CompressionLevel, DeflatePool, OpCode, Options, Role, WebSocket};

/// Contexts for messages without context takeover: the library's own pool, for as many as it keeps ready.
static POOL: OnceLock<DeflatePool> = OnceLock::new();

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
        let extensions = options.extensions();
        let config = if extensions.is_some() {
            let config = config
                .with_compression_level(CompressionLevel::new(options.level.into()))
                .with_compression_threshold(0);
            if options.no_context_takeover {
                config.with_deflate_pool(POOL.get_or_init(|| DeflatePool::new(64)).clone())
            } else {
                config
            }
        } else {
            config
        };
        let ws = WebSocket::from_stream_with_extensions(stream, Role::Server, extensions.as_deref(), config)?;
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
