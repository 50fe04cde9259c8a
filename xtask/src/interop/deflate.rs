//! Compression with Node's `ws` and Python's `websockets` under every combination of its parameters, in both roles.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
};

use super::Peers;

/// With or without takeover for each side, and 9, 12 or 15 window bits for each.
const COMBINATIONS: usize = 2 * 2 * 3 * 3;

/// Checks that `echo` agrees to whatever its clients ask for.
pub(super) fn serve(echo: &Program, peers: &Peers) -> Result<()> {
    let clients = [
        ("ws", peers.node.script("deflate_client.js")),
        ("websockets", peers.python.script("python/deflate_client.py")),
    ];
    for (name, mut client) in clients {
        let server =
            Running::start(echo.name(), echo.command().args(["--listen", "127.0.0.1:0", "--deflate"]))?;
        let lines = Running::start(name, client.arg(server.url()?))?.succeed(LIMIT)?.join(" ");
        println!("echo with {name}: {lines}");
        if !lines.starts_with(&format!("{COMBINATIONS} combinations")) {
            bail!("{name} was to try {COMBINATIONS} combinations");
        }
        server.interrupt()?;
        let told = server.succeed(PATIENCE)?;
        expect_counted(&told)?;
    }
    Ok(())
}

/// Checks by the server's own counters that messages were compressed in both directions, and to less than half.
pub(crate) fn expect_counted(told: &[String]) -> Result<()> {
    for way in ["received", "sent"] {
        let counted = told.iter().find(|line| line.starts_with(way)).and_then(|line| compressed(line));
        match counted {
            Some([messages, from, to]) if messages > 0 && to < from / 2 => {}
            _ => bail!("echo was to tell of messages {way} compressed: {}", told.join("; ")),
        }
    }
    Ok(())
}

/// Parses a line `... M of them compressed from N bytes to K` into the three numbers.
fn compressed(line: &str) -> Option<[u64; 3]> {
    let (before, after) = line.split_once(" of them compressed from ")?;
    let messages = before.rsplit(' ').next()?.parse().ok()?;
    let (from, to) = after.split_once(" bytes to ")?;
    Some([messages, from.parse().ok()?, to.parse().ok()?])
}

/// Checks that `cat` agrees to whatever its servers demand.
pub(super) fn connect(cat: &Program, peers: &Peers) -> Result<()> {
    let servers = [
        ("ws", peers.node.script("deflate_server.js")),
        ("websockets", peers.python.script("python/deflate_server.py")),
    ];
    let lines = lines();
    for (name, mut command) in servers {
        let server = Running::start(name, &mut command)?;
        let mut cats = Vec::new();
        loop {
            let line = server.next_line(PATIENCE)?.with_context(|| format!("{name} has ended"))?;
            if line == "listening" {
                break;
            }
            let (combination, url) =
                line.split_once(' ').with_context(|| format!("{name} printed `{line}`"))?;
            let cat = Running::start(cat.name(), cat.command().arg(url))?;
            for line in &lines {
                cat.write_line(line)?;
            }
            cats.push((combination.to_owned(), cat));
        }
        ensure!(
            cats.len() == COMBINATIONS,
            "{name} serves {} combinations, {COMBINATIONS} were expected",
            cats.len()
        );
        for (combination, cat) in cats {
            let case = format!("cat with {name}, {combination}");
            let received = cat.succeed_after(lines.len(), LIMIT).with_context(|| case.clone())?;
            ensure!(received == lines, "{case}: {} lines came back, or as others", received.len());
        }
        for _ in 0..COMBINATIONS {
            let line = server.next_line(PATIENCE)?.unwrap_or_default();
            match line.split(' ').collect::<Vec<_>>()[..] {
                // `ws` reports the bytes of messages and the bytes on the wire, `websockets` all messages and the
                // compressed ones.
                ["closed", "1000", all, part] if came_compressed(name, all, part) => {}
                _ => {
                    bail!("cat with {name}: it was to see compressed messages, it tells `{line}`");
                }
            }
        }
        println!(
            "cat with {name}: {COMBINATIONS} combinations, {} lines each echoed compressed",
            lines.len()
        );
    }
    Ok(())
}

fn came_compressed(name: &str, all: &str, part: &str) -> bool {
    let (Ok(all), Ok(part)) = (all.parse::<u64>(), part.parse::<u64>()) else { return false };
    if name == "ws" { part < all / 2 } else { all == 6 && part == 5 }
}

/// Returns lines that refer to nothing, to the previous line, to one long ago and beyond every window; one is below
/// the threshold.
fn lines() -> Vec<String> {
    let records = |from: usize, to: usize| {
        (from..to).fold(String::new(), |mut all, i| {
            let reading = i * 7919 % 1000;
            write!(all, r#"{{"id":{i},"name":"station {}","reading":{reading}}},"#, i % 17)
                .expect("a string takes everything");
            all
        })
    };
    let long = records(0, 2000);
    vec![records(0, 30), records(0, 30), "x".into(), long.clone(), records(1900, 2000), long]
}

const LIMIT: Duration = Duration::from_secs(120);
