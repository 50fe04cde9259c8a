//! The server as a process, and its figures: what `/proc` knows, and what it says itself.

use std::{
    fmt, fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::{clients::Targets, server::Leak};

/// The resources of the server at one time, or the medians of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Bytes that are allocated.
    pub(crate) live: u64,
    /// Resident bytes.
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) tasks: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { live, resident, descriptors, tasks } = self;
        let (live, resident) = (live >> 10, resident >> 10);
        write!(f, "{live} KiB allocated, {resident} KiB resident, {descriptors} descriptors, {tasks} tasks")
    }
}

/// The server's process, which is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    targets: Targets,
}

impl Process {
    pub(crate) async fn start(leak: Option<Leak>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--serve");
        if let Some(leak) = leak {
            command.args([
                "--leak",
                match leak {
                    Leak::Room => "room",
                    Leak::Task => "task",
                    Leak::Descriptor => "descriptor",
                },
            ]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().context("standard input is not piped")?;
        let mut lines = BufReader::new(child.stdout.take().context("standard output is not piped")?).lines();
        let pid = child.id().context("the server has ended")?;
        let [plain, tls] = numbers(&mut lines).await?;
        let targets = Targets { plain: plain.try_into()?, tls: tls.try_into()? };
        Ok(Self { child, pid, stdin, lines, targets })
    }

    pub(crate) fn targets(&self) -> Targets {
        self.targets
    }

    /// Reads the figures of this moment.
    pub(crate) async fn figures(&mut self) -> Result<Figures> {
        self.stdin.write_all(b"\n").await?;
        let [live, tasks] = numbers(&mut self.lines).await?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident = resident.context("no VmRSS")?.trim().parse::<u64>()? << 10;
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid))?.count() as u64;
        Ok(Figures { live, resident, descriptors, tasks })
    }

    /// Samples the figures for some time and returns the median of each. The median, because clients that come and
    /// leave, and a burst of messages, move single samples.
    pub(crate) async fn watch(&mut self, time: Duration) -> Result<Figures> {
        let began = Instant::now();
        let mut samples = Vec::new();
        while began.elapsed() < time || samples.is_empty() {
            samples.push(self.figures().await?);
            sleep(EVERY).await;
        }
        let median = |of: fn(&Figures) -> u64| {
            let mut values: Vec<_> = samples.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Ok(Figures {
            live: median(|figures| figures.live),
            resident: median(|figures| figures.resident),
            descriptors: median(|figures| figures.descriptors),
            tasks: median(|figures| figures.tasks),
        })
    }

    /// Waits until the server has no more descriptors and tasks than `before`, or, without them, until they have not
    /// changed for a while. After a limit, it returns what there is.
    pub(crate) async fn until_quiet(&mut self, before: Option<Figures>) -> Result<Figures> {
        let began = Instant::now();
        let mut same_since = Instant::now();
        let mut last = self.figures().await?;
        loop {
            sleep(EVERY).await;
            let now = self.figures().await?;
            if (now.descriptors, now.tasks) != (last.descriptors, last.tasks) {
                same_since = Instant::now();
            }
            last = now;
            let is_back = before
                .is_none_or(|before| now.descriptors <= before.descriptors && now.tasks <= before.tasks);
            if is_back && same_since.elapsed() > QUIET || began.elapsed() > LEAVING {
                return Ok(now);
            }
        }
    }

    /// Ends the server, which must still run.
    pub(crate) async fn finish(mut self) -> Result<()> {
        drop(self.stdin);
        let status = timeout(Duration::from_secs(30), self.child.wait()).await??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Reads a line of two numbers.
async fn numbers(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<[u64; 2]> {
    let line =
        timeout(Duration::from_secs(30), lines.next_line()).await.context("the server says nothing")??;
    let line = line.context("the server has ended")?;
    let (one, two) = line.split_once(' ').context("not two numbers")?;
    Ok([one.parse()?, two.parse()?])
}

/// The time between samples.
const EVERY: Duration = Duration::from_millis(100);

/// The time without a change after which the server counts as quiet. Longer than the server keeps idle compressors.
const QUIET: Duration = Duration::from_secs(12);

/// The limit for everything to be given back. Silent clients are dropped after 8 s, closing handshakes after 5 s; the
/// rest is for a busy machine.
const LEAVING: Duration = Duration::from_secs(120);
