//! The memory that a connection costs while it is idle.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    Arguments, Outcome,
    connection::connect_all,
    frames::{Kind, Script},
    process::{Memory, cpu_nanoseconds},
};

/// Opens the connections, lets each echo one message of each size, and prints the server's memory after each step.
pub(crate) fn run(arguments: &Arguments, conns: u32) -> Outcome {
    let pid = arguments.server_pid.ok_or("the server's process must be named")?;
    let empty = Memory::of(pid)?;
    let cpu_before = cpu_nanoseconds(pid)?;
    let mut streams = connect_all(arguments.addr, conns)?;
    let per_connection = |bytes: u64, before: u64| {
        // A server's memory may shrink below its initial size.
        bytes.saturating_sub(before) / u64::from(conns)
    };
    let report = |state: &str| -> Outcome {
        thread::sleep(SETTLE);
        let now = Memory::of(pid)?;
        let (rss, pss) = (per_connection(now.rss, empty.rss), per_connection(now.pss, empty.pss));
        println!("state {state} rss_per_connection {rss} pss_per_connection {pss}");
        Ok(())
    };
    report("fresh")?;
    let cpu = per_connection(cpu_nanoseconds(pid)?, cpu_before);
    println!("handshake_cpu_ns {cpu}");
    let kind = if arguments.text { Kind::Text } else { Kind::Binary };
    for &size in &arguments.size {
        let script = Script::new(kind, size, 1, 0);
        let script = if arguments.raw { script.mirrored() } else { script };
        for (index, stream) in streams.iter_mut().enumerate() {
            echo(stream, &script).map_err(|reason| format!("connection {index}: {reason}"))?;
        }
        report(&format!("after_{size}"))?;
    }
    Ok(())
}

fn echo(stream: &mut TcpStream, script: &Script) -> Outcome {
    stream.write_all(&script.sent).map_err(|error| error.to_string())?;
    let mut echo = vec![0; script.expected.len()];
    stream.read_exact(&mut echo).map_err(|error| error.to_string())?;
    if echo == script.expected { Ok(()) } else { Err("the echo differs from what was sent".to_owned()) }
}

/// The server's time to finish what it does after an answer.
const SETTLE: Duration = Duration::from_millis(500);
