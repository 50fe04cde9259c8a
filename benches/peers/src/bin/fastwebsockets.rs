//! fastwebsockets, with vectored writes for large payloads. It writes each frame separately: it has no other way.

use std::process::ExitCode;

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
use longwire_bench_peers::serve;

fn main() -> ExitCode {
    serve(|stream, _| async move {
        let mut ws = WebSocket::after_handshake(stream, Role::Server);
        ws.set_writev(true);
        ws.set_auto_close(true);
        ws.set_auto_pong(true);
        ws.set_auto_apply_mask(true);
        let mut ws = FragmentCollector::new(ws);
        loop {
            let frame = ws.read_frame().await?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
                _ => {}
            }
        }
    })
}
