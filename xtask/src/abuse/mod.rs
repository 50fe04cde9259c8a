//! Attacks on the example `echo` over loopback, observing its memory, its descriptors and an honest client.
//!
//! Owns the order of one attack: a fresh server, an honest client, the attack, the wait until everything is released,
//! the verdict. The attacks are in `attacks`, the bounds in `verdict`. The findings are in docs/abuse.md.

mod attacks;
mod healthy;
mod peer;
mod shutdown;
mod verdict;
mod watch;
mod wire;

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use xshell::cmd;

use crate::{cargo, process::Running, programs::Program, workspace::shell};
use healthy::Healthy;
use peer::Peer;
use verdict::{Bounds, End, Measured, Tally};
use watch::{Sampler, Usage};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only the attacks with this text in their name.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// A tenth of the connections, without the attacks that take as long even so.
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// Returns the arguments of the run that is part of every check.
    pub(crate) fn quick() -> Self {
        Self { only: None, quick: true }
    }
}

/// An attack: its action, its server, and how it must end.
struct Attack {
    name: &'static str,
    /// The arguments that the server is started with.
    server: &'static [&'static str],
    /// The ways in which a connection may end.
    ends: &'static [End],
    /// The number of bytes by which the server may grow.
    growth: u64,
    /// Whether a quick run skips it.
    only_full: bool,
    /// Attacks, and returns when all its connections are gone.
    run: fn(&Target) -> Result<Tally>,
}

impl Attack {
    /// Creates an attack with the common bounds, on a server with its defaults.
    const fn new(name: &'static str, ends: &'static [End], run: fn(&Target) -> Result<Tally>) -> Self {
        Self { name, server: &[], ends, growth: 64 << 20, only_full: false, run }
    }

    const fn with_server(self, server: &'static [&'static str]) -> Self {
        Self { server, ..self }
    }
}

/// The server, as attackers know it.
struct Target {
    addr: SocketAddr,
    pid: u32,
    /// Descriptors open while only the honest client is connected.
    descriptors: usize,
    quick: bool,
}

impl Target {
    /// Returns the number of connections or rounds to use: a tenth in a quick run, but at least one.
    fn count(&self, full: usize) -> usize {
        if self.quick { (full / 10).max(1) } else { full }
    }

    /// Runs `one` in `count` threads, and counts how each ended; if any fails, the first failure is returned.
    fn crowd(&self, count: usize, one: impl Fn(&Self) -> Result<End> + Sync) -> Result<Tally> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| one(self))).collect();
            let ends = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("an attacker's thread panicked")))
            });
            ends.collect::<Vec<_>>().into_iter().collect()
        })
    }
}

/// Runs the attacks and prints the table; fails if a bound is broken.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // The examples are built as for users; only the server is built for this.
    cargo::build_optimized(&["echo"])?;
    let pid = std::process::id().to_string();
    let sh = shell()?;
    cmd!(sh, "prlimit --pid {pid} {DESCRIPTORS}").quiet().run()?;

    let began = Instant::now();
    let asked = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let attacks: Vec<_> = attacks::all()
        .into_iter()
        .filter(|attack| asked(attack.name) && !(arguments.quick && attack.only_full))
        .collect();
    let with_shutdown = asked(shutdown::NAME);
    if attacks.is_empty() && !with_shutdown {
        bail!("no attack has that name");
    }
    println!("{}", verdict::HEAD);
    let mut broken = Vec::new();
    for attack in &attacks {
        let measured = attack_once(attack, arguments.quick)?;
        println!("{}", verdict::row(attack.name, &measured));
        let mut bounds = Bounds::default();
        if !arguments.quick {
            // Larger growth is for attacks with many connections at once, of which a quick run has a tenth.
            bounds.growth = attack.growth;
        }
        let faults = verdict::faults(&measured, attack.ends, &bounds);
        broken.extend(faults.into_iter().map(|fault| format!("{}: {fault}", attack.name)));
    }
    println!();
    if with_shutdown {
        match shutdown::run(arguments.quick) {
            Ok(line) => println!("{line}"),
            Err(fault) => broken.push(format!("{}: {fault:#}", shutdown::NAME)),
        }
    }
    println!("All of it took {:.0} s.", began.elapsed().as_secs_f64());
    ensure!(broken.is_empty(), "bounds are broken:\n  {}", broken.join("\n  "));
    Ok(())
}

/// Starts a new server, attacks it, and measures.
///
/// A fresh server for each attack: memory left behind by an earlier one would hide the memory that this one takes.
fn attack_once(attack: &Attack, quick: bool) -> Result<Measured> {
    let (mut running, addr) = start_server(attack.server)?;
    let pid = running.id();
    let healthy = Healthy::start(addr)?;
    thread::sleep(WARM_UP);
    let before = Usage::of(pid)?;
    let target = Target { addr, pid, descriptors: before.descriptors, quick };
    let sampler = Sampler::start(pid);

    let began = Instant::now();
    let ends = (attack.run)(&target);
    let lasted = began.elapsed();
    let bounds = Bounds::default();
    let back = watch::until_descriptors(pid, before.descriptors, bounds.back);
    let most = sampler.finish()?;
    let after = watch::descriptors(pid);
    let (latencies, honest) = healthy.finish();
    let alive = is_alive(&mut running, addr);
    // A server that has ended has no descriptors to count; `alive` reports it.
    Ok(Measured {
        ends,
        growth: most.peak.max(most.resident).saturating_sub(before.resident),
        descriptors: [before.descriptors, most.descriptors, after.unwrap_or_default()],
        back: back.unwrap_or_default(),
        latencies,
        healthy: honest,
        alive,
        lasted,
    })
}

/// Starts `echo` on a port of its choice.
fn start_server(arguments: &[&str]) -> Result<(Running, SocketAddr)> {
    let program = Program::optimized("echo", None)?.command();
    let mut command = Command::new("prlimit");
    command.arg(DESCRIPTORS).arg(program.get_program()).args(["--listen", "127.0.0.1:0"]).args(arguments);
    let running = Running::start("echo", &mut command)?;
    let url = running.url()?;
    let addr = url.trim_start_matches("ws://").trim_end_matches('/');
    let addr = addr.parse().map_err(|_| anyhow!("echo printed an URL without an address: {url}"))?;
    Ok((running, addr))
}

/// Checks that the server runs, has not panicked, and serves a new client.
fn is_alive(running: &mut Running, addr: SocketAddr) -> Result<()> {
    ensure!(!running.has_ended(), "it ended: {}", running.stderr().trim());
    if running.stderr().contains("panicked") {
        bail!("{}", running.stderr());
    }
    Peer::open(addr)?.echo(b"still there?")
}

/// Descriptors for the attackers and for the server; the colon keeps the upper limit unchanged.
const DESCRIPTORS: &str = "--nofile=4096:";

/// The time for the honest client's first echoes, so that their memory is not counted.
const WARM_UP: Duration = Duration::from_millis(300);
