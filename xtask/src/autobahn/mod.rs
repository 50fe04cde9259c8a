//! The Autobahn test suite against longwire's server, also mounted on hyper and on axum, and longwire's client.
//!
//! The suite's own programs (`interop/autobahn/fuzzer.py`) run the cases and print each result as a line; this module
//! distributes the cases over several of them, which run side by side, and [`verdict`] judges.

mod shard;
mod verdict;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    cargo,
    process::{PATIENCE, Running},
    programs::Program,
    setup::{self, Install, Python},
    workspace,
};
use shard::Shard;
use verdict::judge;

/// The cases to run; by default groups 1 to 10, and the short cases of 12 and 13, against all roles.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this role of longwire
    #[arg(value_enum, long)]
    role: Option<Role>,
    /// Runs all cases of permessage-deflate (12.* and 13.*), not only the short ones
    #[arg(long)]
    full: bool,
    /// The number of parts of the cases that run side by side
    #[arg(long, default_value_t = SHARDS)]
    shards: usize,
    /// Seconds that one role may take
    #[arg(long, default_value_t = LIMIT)]
    limit: u64,
    /// A server to use instead of `echo`
    #[arg(long, value_name = "COMMAND")]
    echo: Option<String>,
    /// A client to use instead of `autobahn_client`; the URL follows
    #[arg(long, value_name = "COMMAND")]
    client: Option<String>,
    /// Cases to run, such as `7.1.2` or `9.*`
    cases: Vec<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            role: None,
            full: false,
            shards: SHARDS,
            limit: LIMIT,
            echo: None,
            client: None,
            cases: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    Server,
    Client,
    /// A server mounted on hyper
    Hyper,
    /// A server mounted on axum
    Axum,
}

impl Role {
    const ALL: [Self; 4] = [Self::Server, Self::Client, Self::Hyper, Self::Axum];

    /// Returns the example that serves as the server, and its replacement.
    fn server(self, arguments: &Arguments) -> Option<(&'static str, Option<&str>)> {
        match self {
            Self::Server => Some(("echo", arguments.echo.as_deref())),
            Self::Client => None,
            Self::Hyper => Some(("hyper_echo", None)),
            Self::Axum => Some(("axum_echo", None)),
        }
    }

    /// Returns the example to build: none if it is replaced.
    fn example(self, arguments: &Arguments) -> Option<&'static str> {
        let (name, stand_in) = self.server(arguments).unwrap_or((CLIENT, arguments.client.as_deref()));
        stand_in.is_none().then_some(name)
    }
}

/// The example that is tested as a client.
const CLIENT: &str = "autobahn_client";

/// Many cases wait for a second or so, so more of them than there are processors run well side by side.
const SHARDS: usize = 4;

const LIMIT: u64 = 900;

/// Runs the suite against all roles, or the one requested; every case must pass.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let roles = arguments.role.map_or(Role::ALL.to_vec(), |role| vec![role]);
    let python = setup::autobahn(install)?;
    let ours: Vec<_> = roles.iter().filter_map(|role| role.example(arguments)).collect();
    if !ours.is_empty() {
        cargo::build_optimized(&ours)?;
    }
    let cases = select(&known_cases(&python)?, arguments)?;
    for role in roles {
        run_role(role, arguments, &python, &cases)?;
    }
    Ok(())
}

/// The first start of the suite compiles its modules, on a machine that may be busy.
const START: Duration = Duration::from_secs(180);

fn known_cases(python: &Python) -> Result<Vec<String>> {
    let mut fuzzer = python.script("autobahn/fuzzer.py");
    let listed = Running::start("the suite", fuzzer.arg("list"))?.succeed(START)?;
    Ok(listed.iter().filter_map(|line| line.strip_prefix("case\t")).map(str::to_owned).collect())
}

/// Returns the requested cases of the suite. A pattern that matches none is a mistake.
fn select(known: &[String], arguments: &Arguments) -> Result<Vec<String>> {
    if arguments.cases.is_empty() {
        let wanted = |case: &&String| arguments.full || !is_of_deflate(case) || is_short(case);
        return Ok(known.iter().filter(wanted).cloned().collect());
    }
    for pattern in &arguments.cases {
        ensure!(known.iter().any(|case| matches(pattern, case)), "the suite has no case {pattern}");
    }
    let wanted = |case: &&String| arguments.cases.iter().any(|pattern| matches(pattern, case));
    Ok(known.iter().filter(wanted).cloned().collect())
}

/// Returns whether a case is about permessage-deflate.
fn is_of_deflate(case: &str) -> bool {
    case.starts_with("12.") || case.starts_with("13.")
}

/// Returns whether a case of permessage-deflate is one of the first of its group, with messages of up to 8 KiB: the
/// others take minutes together.
fn is_short(case: &str) -> bool {
    let number = case.rsplit('.').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number: u32| number <= 6)
}

/// Returns whether a case is the one that the pattern names, or belongs to the group before its `*`.
fn matches(pattern: &str, case: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(group) => case.starts_with(group),
        None => case == pattern,
    }
}

fn run_role(role: Role, arguments: &Arguments, python: &Python, cases: &[String]) -> Result<()> {
    let began = Instant::now();
    let deadline = began + Duration::from_secs(arguments.limit);
    let name = format!("{role:?}").to_lowercase();
    let logs = workspace::target()?.join("autobahn").join(&name);
    workspace::empty_directory(&logs)?;

    let echo = match role.server(arguments) {
        Some((name, stand_in)) => {
            let program = Program::optimized(name, stand_in)?;
            Some(start(&program, cases.iter().any(|case| is_of_deflate(case)))?)
        }
        None => None,
    };
    let client = Program::optimized(CLIENT, arguments.client.as_deref())?;
    let mut shards = deal(cases, arguments.shards)
        .into_iter()
        .enumerate()
        .map(|(number, cases)| {
            let log = logs.join(format!("{number}.log"));
            match &echo {
                Some((_, url)) => Shard::against_server(python, url, &cases, log),
                None => Shard::against_client(python, &client, &cases, log),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    while !shards.iter_mut().map(Shard::step).fold(true, |all, ended| all & ended) {
        if Instant::now() > deadline {
            println!("the limit of {} s is reached", arguments.limit);
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }

    let mut complaints = Vec::new();
    let mut results = Vec::new();
    for shard in shards {
        let (told, complaint) = shard.end()?;
        results.extend(told);
        complaints.extend(complaint);
    }
    if let Some((echo, _)) = echo {
        // A server that was brought down by a case has not passed.
        echo.interrupt()?;
        echo.succeed(PATIENCE)?;
    }
    let table = logs.join("results.tsv");
    let rows: Vec<_> = results.iter().map(ToString::to_string).collect();
    fs_err::write(&table, rows.join("\n"))?;

    let verdict = judge(cases, &results);
    for failed in &verdict.failed {
        println!("{failed}");
    }
    println!("autobahn, {name}: {verdict} ({:.1} s; {})", began.elapsed().as_secs_f64(), logs.display());
    complaints.extend(verdict.complaint());
    ensure!(complaints.is_empty(), "{name}: {}", complaints.join("; "));
    Ok(())
}

fn start(program: &Program, deflate: bool) -> Result<(Running, String)> {
    let mut command = program.command();
    command.args(["--listen", "127.0.0.1:0"]);
    if deflate {
        command.arg("--deflate");
    }
    let echo = Running::start(program.name(), &mut command)?;
    let url = echo.url()?;
    Ok((echo, url))
}

/// Deals cases out like cards, because neighbors take about the same time.
fn deal(cases: &[String], hands: usize) -> Vec<Vec<String>> {
    let hands = hands.clamp(1, cases.len().max(1));
    (0..hands).map(|hand| cases.iter().skip(hand).step_by(hands).cloned().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(cases: &[&str]) -> Vec<String> {
        cases.iter().map(|&case| case.to_owned()).collect()
    }

    #[test]
    fn cases_are_selected_by_group_and_by_name() {
        let known = owned(&["1.1.1", "1.1.2", "10.1.1", "12.1.1", "13.7.18"]);
        for (patterns, full, expected) in [
            (&[][..], false, Ok(owned(&["1.1.1", "1.1.2", "10.1.1", "12.1.1"]))),
            (&[], true, Ok(known.clone())),
            (&["1.*"], false, Ok(owned(&["1.1.1", "1.1.2"]))),
            (&["1.1.1", "12.*"], false, Ok(owned(&["1.1.1", "12.1.1"]))),
            (&["1.1"], false, Err("the suite has no case 1.1")),
        ] {
            let arguments = Arguments { full, cases: owned(patterns), ..Arguments::default() };
            let selected = select(&known, &arguments).map_err(|reason| reason.to_string());
            assert_eq!(selected, expected.map_err(str::to_owned), "{patterns:?} {full}");
        }
    }

    #[test]
    fn every_case_is_dealt_once() {
        let cases = owned(&["1", "2", "3", "4", "5"]);
        assert_eq!(deal(&cases, 2), [owned(&["1", "3", "5"]), owned(&["2", "4"])]);
        assert_eq!(deal(&cases, 9).len(), 5);
        assert_eq!(deal(&cases, 0), [cases]);
    }
}
