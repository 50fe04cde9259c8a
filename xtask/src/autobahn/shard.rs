//! A part of the cases, run by its own fuzzing client or fuzzing server.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
    setup::Python,
};

use super::verdict::CaseResult;

/// A run of some cases.
pub(crate) struct Shard {
    fuzzer: Running,
    /// The client under test, if a client is tested.
    client: Option<Running>,
    cases: usize,
    results: Vec<CaseResult>,
    log: PathBuf,
    state: State,
}

enum State {
    Running,
    /// The client under test has ended; the fuzzing server is about to notice.
    ClientEnded(Instant),
    Ended,
}

impl Shard {
    /// Starts a fuzzing client against the server at `url`.
    pub(crate) fn against_server(python: &Python, url: &str, cases: &[String], log: PathBuf) -> Result<Self> {
        let mut command = python.script("autobahn/fuzzer.py");
        command.args(["client", url]).args(cases);
        let fuzzer = Running::start("the fuzzing client", &mut command)?;
        Ok(Self { fuzzer, client: None, cases: cases.len(), results: Vec::new(), log, state: State::Running })
    }

    /// Starts a fuzzing server and the client under test.
    pub(crate) fn against_client(
        python: &Python,
        client: &Program,
        cases: &[String],
        log: PathBuf,
    ) -> Result<Self> {
        let mut command = python.script("autobahn/fuzzer.py");
        command.arg("server").args(cases);
        let fuzzer = Running::start("the fuzzing server", &mut command)?;
        let url = fuzzer.wait_for("its URL", |line| line.strip_prefix("listening\t").map(str::to_owned))?;
        let client = Some(Running::start("the client under test", client.command().arg(url))?);
        Ok(Self { fuzzer, client, cases: cases.len(), results: Vec::new(), log, state: State::Running })
    }

    /// Takes new output, and returns whether this shard is done.
    pub(crate) fn step(&mut self) -> bool {
        while let Some(line) = self.fuzzer.try_line(Duration::ZERO) {
            self.results.extend(CaseResult::parse(&line));
        }
        let ended = match (&self.state, &mut self.client) {
            (State::Ended, _) => true,
            (State::Running, None) => self.fuzzer.has_ended(),
            (State::Running, Some(client)) => {
                if client.has_ended() {
                    self.state = State::ClientEnded(Instant::now());
                }
                false
            }
            (State::ClientEnded(when), _) => {
                self.results.len() == self.cases || when.elapsed() > Duration::from_secs(5)
            }
        };
        if ended {
            self.state = State::Ended;
        }
        ended
    }

    /// Stops everything still running, keeps the log, and returns the results and any other complaint.
    pub(crate) fn end(mut self) -> Result<(Vec<CaseResult>, Option<String>)> {
        let mut complaint = None;
        let mut log = String::new();
        match self.client.take() {
            Some(client) => {
                if matches!(self.state, State::Ended) {
                    let ended = client.finish(PATIENCE)?;
                    if !ended.status.success() {
                        complaint =
                            Some(format!("the client ended with {}: {}", ended.status, ended.stderr.trim()));
                    }
                    log = ended.stderr;
                } else {
                    complaint = Some("the client did not end".to_owned());
                }
                log.push_str(&self.fuzzer.stderr());
            }
            None if matches!(self.state, State::Ended) => {
                let ended = self.fuzzer.finish(PATIENCE)?;
                if !ended.status.success() {
                    complaint = Some(format!("the fuzzing client ended with {}", ended.status));
                }
                self.results.extend(ended.lines.iter().filter_map(|line| CaseResult::parse(line)));
                log = ended.stderr;
            }
            None => log.push_str(&self.fuzzer.stderr()),
        }
        fs_err::write(&self.log, log)?;
        Ok((self.results, complaint))
    }
}
