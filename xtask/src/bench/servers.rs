//! Building and starting the echo servers and the load generator.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::ValueEnum;
use xshell::cmd;

use crate::{
    process::Running,
    workspace::{self, shell},
};

/// An echo server. The peers' programs have the names of their libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Server {
    Longwire,
    Fastwebsockets,
    TokioWebsockets,
    TokioTungstenite,
    Yawc,
    Sockudo,
    /// The least that an echo on tokio can do with frames: a yardstick, not a peer.
    Floor,
    /// Sends bytes back unchanged and does not know frames: a yardstick, too.
    Raw,
}

impl Server {
    /// The servers to compare by default.
    pub(crate) const COMPARED: [Self; 7] = [
        Self::Longwire,
        Self::Fastwebsockets,
        Self::TokioWebsockets,
        Self::TokioTungstenite,
        Self::Yawc,
        Self::Sockudo,
        Self::Floor,
    ];

    /// Returns its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Longwire => "longwire",
            Self::Fastwebsockets => "fastwebsockets",
            Self::TokioWebsockets => "tokio-websockets",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Yawc => "yawc",
            Self::Sockudo => "sockudo-ws",
            Self::Floor => "tokio floor",
            Self::Raw => "raw",
        }
    }

    /// Returns the server with a name in tables.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|server| server.name() == name)
    }

    /// Returns whether it counts as a competitor of longwire.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Longwire | Self::Floor | Self::Raw)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Longwire => "examples/echo",
            Self::Fastwebsockets => "fastwebsockets",
            Self::TokioWebsockets => "tokio_websockets",
            Self::TokioTungstenite => "tungstenite",
            Self::Yawc => "yawc",
            Self::Sockudo => "sockudo",
            Self::Floor => "floor",
            Self::Raw => "raw",
        }
    }
}

/// The goal for the sizes of a peer's buffers; longwire has no such choice.
#[derive(Clone, Copy)]
pub(crate) enum Tuning {
    /// Throughput with this many messages in flight on each connection.
    Speed { depth: usize },
    /// Many idle connections.
    Memory,
}

/// The programs, built.
pub(crate) struct Programs {
    /// The directories of longwire's examples and of the peers.
    ours: PathBuf,
    peers: PathBuf,
}

impl Programs {
    /// Builds everything as installed by users.
    pub(crate) fn build() -> Result<Self> {
        Self::build_into("", &[])
    }

    /// Builds for processors of the last ten years, which is the target for counting instructions.
    pub(crate) fn build_v3() -> Result<Self> {
        Self::build_into("bench-v3", &[("RUSTFLAGS", "-Ctarget-cpu=x86-64-v3")])
    }

    fn build_into(directory: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let benches = workspace::root().join("benches");
        let (ours, peers) = (workspace::target()?.join(directory), benches.join("target").join(directory));
        let sh = shell()?;
        let build = |arguments: &[&str], target: &Path| {
            // Not `--locked`: the programs that use longwire follow its dependencies.
            let command = cmd!(sh, "cargo build --release {arguments...} --target-dir {target}");
            command.envs(environment.iter().copied()).run()
        };
        build(&EXAMPLES, &ours)?;
        sh.change_dir(&benches);
        build(&[], &peers)?;
        Ok(Self { ours: ours.join("release"), peers: peers.join("release") })
    }

    /// Returns the command of a server with this many threads.
    pub(crate) fn server(&self, server: Server, tuning: Tuning, threads: u16) -> Command {
        let directory = if server == Server::Longwire { &self.ours } else { &self.peers };
        let mut command = Command::new(directory.join(server.program()));
        command.args(["--threads", &threads.to_string()]);
        match (server, tuning) {
            (Server::Longwire, _) | (_, Tuning::Speed { depth: 1 }) => {}
            (_, Tuning::Speed { .. }) => drop(command.args(["--batch", "32"])),
            (_, Tuning::Memory) => drop(command.args(["--tuning", "memory"])),
        }
        command
    }

    /// Starts a server on the first core.
    pub(crate) fn start(&self, server: Server, tuning: Tuning) -> Result<Started> {
        self.start_under(server, tuning, &["prlimit", DESCRIPTORS, "taskset", "--cpu-list", "0"])
    }

    /// Starts a server through another program, which must become the server or run it in its own process.
    pub(crate) fn start_under<W: AsRef<OsStr>>(
        &self,
        server: Server,
        tuning: Tuning,
        wrapper: &[W],
    ) -> Result<Started> {
        let started = Started::under(server.name(), wrapper, &self.server(server, tuning, 1))?;
        Ok(Started { server, ..started })
    }

    /// Starts a program that takes part in no other comparison, on the first core and on a port that it picks.
    pub(crate) fn start_other(name: &str, command: &Command) -> Result<Started> {
        Started::under(name, &["prlimit", DESCRIPTORS, "taskset", "--cpu-list", "0"], command)
    }

    /// Starts a program on all cores, with enough descriptors for this many connections.
    pub(crate) fn start_anywhere(name: &str, command: &Command, conns: u32) -> Result<Started> {
        Started::under(name, &["prlimit", &descriptors(conns)], command)
    }

    /// Returns the path of one of our programs.
    pub(crate) fn ours(&self, program: &str) -> PathBuf {
        self.ours.join(program)
    }

    /// Returns the path of a program in the workspace `benches`.
    pub(crate) fn peers(&self, program: &str) -> PathBuf {
        self.peers.join(program)
    }

    /// Returns a program that generates load, on the second core if there is one.
    pub(crate) fn load(&self, program: &str, started: &Started) -> Command {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", if cores > 1 { "1" } else { "0" }]);
        command.arg(self.peers(program));
        started.aim(&mut command);
        command
    }

    /// Returns a program that generates load, on all cores.
    pub(crate) fn load_anywhere(&self, program: &str, started: &Started) -> Command {
        let mut command = Command::new(self.peers(program));
        started.aim(&mut command);
        command
    }

    /// Returns the load generator.
    pub(crate) fn load_generator(&self, started: &Started) -> Command {
        let mut command = self.load("loadgen", started);
        if started.server == Server::Raw {
            command.arg("--raw");
        }
        command
    }
}

/// A running server. It is stopped when this value is dropped.
pub(crate) struct Started {
    server: Server,
    pub(crate) running: Running,
    addr: String,
}

impl Started {
    /// Starts a program through another one, on a port that it picks.
    fn under<W: AsRef<OsStr>>(name: &str, wrapper: &[W], command: &Command) -> Result<Self> {
        let mut whole = Command::new(&wrapper[0]);
        whole.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
        whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        whole.args(["--listen", "127.0.0.1:0"]);
        let running = Running::start(name, &mut whole)?;
        let url = running.url()?;
        let addr =
            url.trim_start_matches("wss://").trim_start_matches("ws://").trim_end_matches('/').to_owned();
        // Of the servers that are not compared with the load generator's frames, none sends bytes back unchanged.
        Ok(Self { server: Server::Longwire, running, addr })
    }

    /// Adds the server to the command line of a load.
    fn aim(&self, command: &mut Command) {
        command.arg(&self.addr).args(["--server-pid", &self.running.id().to_string()]);
    }
}

/// Returns the option of prlimit for a process with this many connections; the colon keeps the upper limit.
pub(crate) fn descriptors(conns: u32) -> String {
    format!("--nofile={}:", u64::from(conns) + u64::from(OTHER_DESCRIPTORS))
}

/// The descriptors of a process that are not connections, with some to spare.
pub(crate) const OTHER_DESCRIPTORS: u32 = 500;

/// The parts of longwire that are measured.
const EXAMPLES: [&str; 8] = [
    "--package",
    "longwire-examples",
    "--example",
    "echo",
    "--example",
    "broadcast",
    "--example",
    "axum_echo",
];

/// Descriptors for ten thousand connections; the colon keeps the upper limit, which only the superuser may raise.
const DESCRIPTORS: &str = "--nofile=12000:";
