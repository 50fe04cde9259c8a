//! The instructions that a server's own code takes for a message, counted by callgrind: the same number on a busy
//! machine as on a quiet one.
//!
//! Two runs differ only in the number of messages, so their difference does not include starting, connecting and
//! ending.
//!
//! Gungraun does not serve here: it counts functions of a benchmark's own process, or one program from its start to its
//! own end, while these servers pick a port, are driven by another process, end on a signal, and are compared in pairs
//! of runs.

use std::{fmt::Write, path::Path, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use xshell::cmd;

use super::{
    data::Data,
    servers::{Programs, Server, Tuning},
};
use crate::{
    process::{PATIENCE, Running},
    workspace::{self, shell},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only the shortest message, with the programs of the other parts: a build of their own takes minutes.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Counts the instructions of every server for every message.
pub(crate) fn measure(arguments: &Arguments, servers: &[Server]) -> Result<Data> {
    let programs = if arguments.quick { Programs::build()? } else { Programs::build_v3()? };
    let directory = workspace::target()?.join("bench-callgrind");
    workspace::empty_directory(&directory)?;
    let mut data = Data::begin([])?;
    for &(name, message) in if arguments.quick { &MESSAGES[..1] } else { &MESSAGES } {
        for &server in servers {
            eprintln!("{name}: {}", server.name());
            let count = |messages| count(&programs, server, message, messages, &directory);
            let more = more(server);
            // Fewer instructions for more messages are noise, and must not be reported as a figure.
            let difference = count(more)?.checked_sub(count(FEWER)?).with_context(|| {
                format!("{}, {name}: more messages took fewer instructions", server.name())
            })?;
            #[allow(clippy::cast_precision_loss, reason = "some thousand")]
            let instructions = (difference / (more - FEWER)) as f64;
            data.add((TABLE, name, server.name()), 0, [("instructions", instructions)]);
        }
    }
    Ok(data)
}

/// Returns the table.
pub(crate) fn tables(data: &Data) -> Vec<(&'static str, String)> {
    let servers = data.servers(TABLE);
    let mut out = format!("| message | {} |\n|---|{}\n", servers.join(" | "), "---|".repeat(servers.len()));
    for row in data.rows(TABLE) {
        let figure = |server: &&str| data.median((TABLE, row, server), "instructions");
        let figures: Vec<_> = servers
            .iter()
            .map(|server| figure(server).map_or("–".to_owned(), |figure| figure.to_string()))
            .collect();
        let _ = writeln!(out, "| {row} | {} |", figures.join(" | "));
    }
    vec![("instructions", out)]
}

const TABLE: &str = "instructions";

/// The message to send.
#[derive(Clone, Copy)]
struct Message {
    size: usize,
    depth: usize,
    text: bool,
}

/// Returns the instructions of a server from its start to its end, with this many messages echoed.
fn count(
    programs: &Programs,
    server: Server,
    message: Message,
    messages: u64,
    directory: &Path,
) -> Result<u64> {
    let Message { size, depth, text } = message;
    let kind = if text { "text" } else { "binary" };
    let counted = directory.join(format!("{}-{size}-{depth}-{kind}-{messages}", server.name()));
    let file = format!("--callgrind-out-file={}", counted.display());
    let wrapper = ["env", PLAIN_COPIES, "valgrind", "--quiet", "--tool=callgrind", &file];
    let started = programs.start_under(server, Tuning::Speed { depth }, &wrapper)?;
    let mut command = programs.load_generator(&started);
    for (option, value) in [("--size", size), ("--depth", depth)] {
        command.arg(option).arg(value.to_string());
    }
    command.arg("--messages").arg(messages.to_string());
    if text {
        command.arg("--text");
    }
    let name = format!("the load generator for {}", server.name());
    Running::start(&name, &mut command)?.succeed(LIMIT)?;
    // Not SIGINT: a process that a shell starts in the background ignores it by inheritance.
    let pid = started.running.id().to_string();
    let sh = shell()?;
    cmd!(sh, "kill -TERM {pid}").quiet().run()?;
    // Peers end with the status of the signal; what counts is that the figures were written.
    started.running.finish(PATIENCE)?;
    let counts = fs_err::read_to_string(&counted)?;
    total(&counts).with_context(|| format!("{} holds no total", counted.display()))
}

/// Returns the total from a file that callgrind wrote.
fn total(text: &str) -> Option<u64> {
    let mut totals = text.lines().filter_map(|line| {
        line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: "))?.trim().parse().ok()
    });
    totals.next_back()
}

const MESSAGES: [(&str, Message); 5] = [
    ("16 B", Message { size: 16, depth: 1, text: false }),
    ("16 B, depth 16", Message { size: 16, depth: 16, text: false }),
    ("1 KiB", Message { size: 1024, depth: 1, text: false }),
    ("1 KiB, text", Message { size: 1024, depth: 1, text: true }),
    ("16 KiB", Message { size: 16 * 1024, depth: 1, text: false }),
];

/// Returns the number of messages of the longer run.
fn more(server: Server) -> u64 {
    match server {
        // On its first connection it calibrates a clock for a fixed time, not a fixed count: 10 to 15 million
        // instructions, never the same number twice. The difference must be large enough to drown them.
        Server::Sockudo => 100 * FEWER,
        _ => 5 * FEWER,
    }
}

/// A multiple of every depth.
const FEWER: u64 = 1600;

/// Callgrind counts each iteration of a repeated string instruction, which glibc uses to fill and copy from some KiB
/// on: 16 384 for a fill of 16 KiB that takes as long as some hundred others. Without these instructions, the count
/// reflects the cost.
const PLAIN_COPIES: &str = "GLIBC_TUNABLES=glibc.cpu.x86_rep_stosb_threshold=1000000000:\
                            glibc.cpu.x86_rep_movsb_threshold=1000000000";

/// A server takes about fifty times as long under callgrind.
const LIMIT: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_what_callgrind_writes() {
        for (text, expected) in [
            ("events: Ir\nfn=(1)\n1 5\n\ntotals: 1234\n", Some(1234)),
            ("summary: 77\nevents: Ir\n", Some(77)),
            ("events: Ir\n", None),
        ] {
            assert_eq!(total(text), expected, "{text}");
        }
    }
}
