//! Sends back every byte unchanged, and knows nothing of frames: the cost of the kernel and tokio themselves.

use std::process::ExitCode;

use longwire_bench_peers::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> ExitCode {
    serve(|mut stream, _| async move {
        let mut buf = vec![0; 128 * 1024];
        loop {
            match stream.read(&mut buf).await? {
                0 => return Ok(()),
                len => stream.write_all(&buf[..len]).await?,
            }
        }
    })
}
