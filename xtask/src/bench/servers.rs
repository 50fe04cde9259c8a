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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    Longwire,
    Fastwebsockets,
    TokioWebsockets,
    TokioTungstenite,
    Yawc,
    Sockudo,
    /// Sends bytes back unchanged and does not know frames: a yardstick, not a peer.
    Raw,
}

impl Server {
    /// The servers to compare by default.
    pub(crate) const COMPARED: [Self; 6] = [
        Self::Longwire,
        Self::Fastwebsockets,
        Self::TokioWebsockets,
        Self::TokioTungstenite,
        Self::Yawc,
        Self::Sockudo,
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
            Self::Raw => "raw",
        }
    }

    /// Returns whether it counts as a competitor of longwire.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Longwire | Self::Raw)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Longwire => "examples/echo",
            Self::Fastwebsockets => "fastwebsockets",
            Self::TokioWebsockets => "tokio_websockets",
            Self::TokioTungstenite => "tungstenite",
            Self::Yawc => "yawc",
            Self::Sockudo => "sockudo",
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

    /// Returns the command line of a server that picks its port.
    fn server(&self, server: Server, tuning: Tuning) -> Vec<String> {
        let directory = if server == Server::Longwire { &self.ours } else { &self.peers };
        let program = directory.join(server.program()).display().to_string();
        let mut words = vec![program, "--listen".to_owned(), "127.0.0.1:0".to_owned()];
        match (server, tuning) {
            (Server::Longwire, _) => words.extend(["--threads", "1"].map(str::to_owned)),
            (_, Tuning::Speed { depth: 1 }) => {}
            (_, Tuning::Speed { .. }) => words.extend(["--batch", "32"].map(str::to_owned)),
            (_, Tuning::Memory) => words.extend(["--tuning", "memory"].map(str::to_owned)),
        }
        words
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
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(self.server(server, tuning));
        let running = Running::start(server.name(), &mut command)?;
        Started::new(server, running)
    }

    /// Starts a program that takes part in no other comparison, on the first core and on a port that it picks.
    pub(crate) fn start_other(name: &str, command: &Command) -> Result<Started> {
        let mut on_core = Command::new("prlimit");
        on_core.args([DESCRIPTORS, "taskset", "--cpu-list", "0"]).arg(command.get_program());
        on_core.args(command.get_args());
        on_core.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        on_core.args(["--listen", "127.0.0.1:0"]);
        Started::new(Server::Raw, Running::start(name, &mut on_core)?)
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
        command.arg(self.peers(program)).arg(&started.addr);
        command.args(["--server-pid", &started.running.id().to_string()]);
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
    fn new(server: Server, running: Running) -> Result<Self> {
        let url = running.url()?;
        let addr = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        Ok(Self { server, running, addr })
    }
}

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
