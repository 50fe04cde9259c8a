//! The memory that a connection costs while it is idle.

use std::{
    io::{self, Read, Write, stdin},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    Arguments, Outcome,
    connection::{open, shake_hands},
    frames::{Kind, Script},
    process::{Memory, available_memory, cpu_nanoseconds},
    secure::{self, Secured},
};

/// Opens the connections, lets each echo one message of each size, and prints the server's memory after each step.
pub(crate) fn run(arguments: &Arguments, conns: u32) -> Outcome {
    let pid = arguments.server_pid.ok_or("the server's process must be named")?;
    let empty = Memory::of(pid)?;
    let cpu_before = cpu_nanoseconds(pid)?;
    let mut streams = connect_all(arguments, conns)?;
    let per_connection = |bytes: u64, before: u64| {
        // A server's memory may shrink below its initial size.
        bytes.saturating_sub(before) / u64::from(conns)
    };
    let report = |state: &str| -> Outcome {
        thread::sleep(SETTLE);
        let now = Memory::of(pid)?;
        let (rss, pss) = (per_connection(now.rss, empty.rss), per_connection(now.pss, empty.pss));
        println!("state {state} rss_per_connection {rss} pss_per_connection {pss}");
        if arguments.step {
            stdin().read_line(&mut String::new()).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    report("fresh")?;
    let cpu = per_connection(cpu_nanoseconds(pid)?, cpu_before);
    println!("handshake_cpu_ns {cpu}");
    let kind = if arguments.text { Kind::Text } else { Kind::Binary };
    for &size in &arguments.size {
        let script = Script::new(kind, size, 1, 0);
        let script = if arguments.raw { script.mirrored() } else { script };
        let mut buf = vec![0; script.expected.len()];
        for (index, stream) in streams.iter_mut().enumerate() {
            check_memory(arguments, index)?;
            echo(stream, &script, &mut buf).map_err(|reason| format!("connection {index}: {reason}"))?;
        }
        report(&format!("after_{size}"))?;
    }
    Ok(())
}

/// A client without buffers of its own, unless TLS needs some.
enum Client {
    Plain(TcpStream),
    Secured(Box<Secured>),
}

fn connect_all(arguments: &Arguments, conns: u32) -> Outcome<Vec<Client>> {
    let tls = arguments.tls.then(secure::config).transpose()?;
    let connect = |index| {
        let stream = open(arguments.addr, arguments.offset + index)?;
        let mut client = match &tls {
            Some(config) => Client::Secured(Box::new(secure::secure(config, stream)?)),
            None => Client::Plain(stream),
        };
        shake_hands(&mut client, arguments.addr)?;
        Ok(client)
    };
    let mut clients = Vec::new();
    for index in 0..conns {
        check_memory(arguments, clients.len())?;
        clients.push(connect(index).map_err(|reason: String| format!("connection {index}: {reason}"))?);
    }
    Ok(clients)
}

/// Fails when the machine runs out of memory; looks once in a while.
fn check_memory(arguments: &Arguments, index: usize) -> Outcome {
    if index.is_multiple_of(256) {
        let (available, least) = (available_memory()? >> 20, arguments.spare_memory);
        if available < least {
            return Err(format!(
                "at connection {index} only {available} MiB are available, less than {least}"
            ));
        }
    }
    Ok(())
}

fn echo(stream: &mut Client, script: &Script, buf: &mut [u8]) -> Outcome {
    stream.write_all(&script.sent).map_err(|error| error.to_string())?;
    stream.read_exact(buf).map_err(|error| error.to_string())?;
    if buf == script.expected { Ok(()) } else { Err("the echo differs from what was sent".to_owned()) }
}

impl Read for Client {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Secured(stream) => stream.read(buf),
        }
    }
}

impl Write for Client {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Secured(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Secured(stream) => stream.flush(),
        }
    }
}

/// The server's time to finish what it does after an answer.
const SETTLE: Duration = Duration::from_millis(500);
