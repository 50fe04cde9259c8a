//! Line coverage: which lines of the libraries no test executes, and how many of them each library may have.
//!
//! The compiler counts, LLVM's tools read what it counted, and cargo-llvm-cov runs both. Here, lines become shares of
//! crates, without the unit tests in the same files, which would count as covered lines. Doctests, the simulation, the
//! fuzz targets and the examples are not run: what only they reach has no test that would explain a failure.

use std::{collections::BTreeMap, fmt::Write as _, ops::RangeInclusive};

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use crate::{
    setup::{self, Install},
    workspace::{self, shell},
};

/// The libraries, each with the share of its lines that must be covered, in percent.
const GOALS: [(&str, usize); 10] = [
    ("longwire-frame", 97),
    ("longwire-deflate", 97),
    ("longwire-handshake", 97),
    ("longwire-protocol", 97),
    ("longwire-connection", 93),
    ("longwire-hub", 93),
    ("longwire-client", 93),
    ("longwire-server", 93),
    ("longwire-hyper", 93),
    ("longwire-cluster", 93),
];

/// The options of `cargo xtask coverage`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The libraries, of which only their own tests are run. Default: all, with the tests of the facade.
    #[arg(value_parser = GOALS.map(|(name, _)| name))]
    crates: Vec<String>,
}

/// Runs the tests of the libraries and of the facade, prints the lines that they do not cover, and fails if a library
/// has more of them than its goal allows.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let tools = setup::coverage(install)?;
    let report = workspace::target()?.join("coverage.lcov");
    let is_meant = |name: &str| arguments.crates.is_empty() || arguments.crates.iter().any(|one| one == name);
    let goals: Vec<_> = GOALS.into_iter().filter(|(name, _)| is_meant(name)).collect();
    let facade = arguments.crates.is_empty().then_some("longwire");
    let packages = goals.iter().map(|(name, _)| *name).chain(facade).flat_map(|name| ["--package", name]);
    let (sh, program) = (shell()?, &tools.program);
    let command = cmd!(sh, "{program} llvm-cov --all-features --lib --bins --tests {packages...}");
    command.args(["--lcov", "--output-path"]).arg(&report).envs(tools.variables).run()?;

    let files = without_tests(parse(&fs_err::read_to_string(report)?)?)?;
    let (text, missed) = summary(&files, &goals)?;
    println!("{text}");
    ensure!(missed.is_empty(), "below the goal: {}", missed.join(", "));
    Ok(())
}

/// The lines of a file that contain code, and whether each was executed.
type Lines = BTreeMap<usize, bool>;

/// Reads a report in the format of lcov: the files, by their paths from the root.
fn parse(report: &str) -> Result<BTreeMap<String, Lines>> {
    let root = format!("{}/", workspace::root().display());
    let mut files = BTreeMap::new();
    let mut lines: Option<&mut Lines> = None;
    for record in report.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            lines = Some(files.entry(path.strip_prefix(&root).unwrap_or(path).to_owned()).or_default());
        } else if let Some(counted) = record.strip_prefix("DA:") {
            let (line, count) = counted.split_once(',').context("a line without a count")?;
            let lines = lines.as_mut().context("a line before the first file")?;
            *lines.entry(line.parse()?).or_default() |= count != "0";
        }
    }
    Ok(files)
}

/// Removes the unit tests: files of that name, and `#[cfg(test)]` and `mod tests {`, to the end of the file.
fn without_tests(mut files: BTreeMap<String, Lines>) -> Result<BTreeMap<String, Lines>> {
    files.retain(|path, _| !path.ends_with("/tests.rs"));
    for (path, lines) in &mut files {
        let source = fs_err::read_to_string(workspace::root().join(path))?;
        if let Some(tests) = source.lines().position(|line| line == "mod tests {") {
            lines.split_off(&tests);
        }
    }
    Ok(files)
}

/// Returns the uncovered lines and the table of the libraries, and what is below its goal.
fn summary(files: &BTreeMap<String, Lines>, goals: &[(&str, usize)]) -> Result<(String, Vec<String>)> {
    let (mut text, mut table, mut missed) = (String::new(), String::new(), Vec::new());
    for &(name, goal) in goals {
        let directory = format!("crates/{name}/src/");
        let (mut covered, mut all) = (0, 0);
        for (path, lines) in files.iter().filter(|(path, _)| path.starts_with(&directory)) {
            all += lines.len();
            covered += lines.values().filter(|covered| **covered).count();
            let ranges: Vec<_> = uncovered(lines).iter().map(show).collect();
            if !ranges.is_empty() {
                writeln!(text, "{path}: {}", ranges.join(", "))?;
            }
        }
        ensure!(all > 0, "the report has no line of {name}");
        // In tenths of a percent, rounded down: a share below the goal is not shown as the goal.
        let share = covered * 1000 / all;
        writeln!(
            table,
            "{name:<20} {covered:>5} of {all:>5} lines {:>3}.{} %, goal {goal} %",
            share / 10,
            share % 10
        )?;
        if share < goal * 10 {
            missed.push(name.to_owned());
        }
    }
    Ok((format!("lines that no test executes:\n{text}\n{table}"), missed))
}

/// Returns the uncovered lines as ranges that no covered line interrupts.
fn uncovered(lines: &Lines) -> Vec<RangeInclusive<usize>> {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    let mut continues = false;
    for (&line, &covered) in lines {
        match ranges.last_mut() {
            Some(range) if !covered && continues => *range = *range.start()..=line,
            _ if !covered => ranges.push(line..=line),
            _ => {}
        }
        continues = !covered;
    }
    ranges
}

fn show(range: &RangeInclusive<usize>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "SF:crates/one/src/lib.rs\nDA:1,0\nDA:2,0\nDA:4,0\nDA:5,7\nDA:6,1\nDA:6,0\nDA:8,0\n\
        LF:6\nend_of_record\nSF:crates/two/src/lib.rs\nDA:1,1\nend_of_record\n";

    #[test]
    fn uncovered_lines_are_named_and_counted() {
        let files = parse(REPORT).unwrap();
        let (text, missed) = summary(&files, &[("one", 33), ("two", 100)]).unwrap();
        assert!(text.contains("\ncrates/one/src/lib.rs: 1-4, 8\n"), "{text}");
        assert!(!text.contains("two/src"), "{text}");
        assert!(text.contains("one                      2 of     6 lines  33.3 %, goal 33 %\n"), "{text}");
        assert!(text.contains("two                      1 of     1 lines 100.0 %, goal 100 %\n"), "{text}");
        assert!(missed.is_empty(), "{missed:?}");
    }

    #[test]
    fn a_library_below_its_goal_is_named() {
        let files = parse(REPORT).unwrap();
        assert_eq!(summary(&files, &[("one", 34), ("two", 100)]).unwrap().1, ["one"]);
        let reason = summary(&files, &[("three", 0)]).unwrap_err().to_string();
        assert_eq!(reason, "the report has no line of three");
    }

    #[test]
    fn unit_tests_are_not_counted() {
        let path = "xtask/src/coverage.rs";
        let source = fs_err::read_to_string(workspace::root().join(path)).unwrap();
        let all = (1..=source.lines().count()).map(|line| (line, true)).collect();
        let files = without_tests(BTreeMap::from([(path.to_owned(), all)])).unwrap();
        let last = *files[path].last_key_value().unwrap().0;
        assert_eq!(source.lines().nth(last), Some("#[cfg(test)]"), "the first line that is left out");
    }
}
