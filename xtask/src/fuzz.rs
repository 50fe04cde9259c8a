//! Fuzzing: builds the targets for libFuzzer, runs each for some time, and keeps the corpus small.
//!
//! The targets are functions of the crate `fuzz-targets`, whose tests call them with the committed corpus; this command
//! looks for inputs that nobody thought of. Inputs found go to `fuzz/corpus`, which is not committed.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    setup::{self, Install},
    workspace,
};

/// The options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The time for each target.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
    /// Instead of fuzzing, replaces the committed corpus by the smallest one that covers as much as it does together
    /// with what was found.
    #[arg(long)]
    minimize: bool,
    /// The targets; all if none is named.
    targets: Vec<String>,
}

/// Fuzzes the targets one after the other, or minimizes their corpora. Stops at the first failure.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}; the targets are {}", known.join(", "));
    }
    let tool = Tool { program: setup::cargo_fuzz(install)?, directory: directory() };
    for name in if arguments.targets.is_empty() { &known } else { &arguments.targets } {
        if arguments.minimize {
            tool.minimize(name)?;
        } else {
            tool.fuzz(name, arguments.seconds)?;
        }
    }
    Ok(())
}

fn directory() -> PathBuf {
    workspace::root().join("fuzz")
}

/// Returns the names of the targets, in order.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(directory().join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

struct Tool {
    /// cargo-fuzz.
    program: PathBuf,
    /// The directory of the fuzzing workspace.
    directory: PathBuf,
}

impl Tool {
    fn fuzz(&self, name: &str, seconds: u32) -> Result<()> {
        let (found, seeds) = (self.corpus("corpus", name), self.corpus("seeds", name));
        fs_err::create_dir_all(&found)?;
        let mut command = self.command(name)?;
        // New inputs are written to the first directory.
        command.args([&found, &seeds]).arg("--").args(["-print_final_stats=1", "-timeout=20"]);
        command.arg(format!("-max_total_time={seconds}"));
        let dictionary = self.directory.join("dictionaries").join(format!("{name}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let lines = output(&mut command, name)?;
        let executions = statistic(&lines, "number_of_executed_units")?;
        let rate = statistic(&lines, "average_exec_per_sec")?;
        println!("{name:<16} {executions:>12} executions {rate:>8}/s {:>6} inputs", count(&found)?);
        Ok(())
    }

    fn minimize(&self, name: &str) -> Result<()> {
        let (found, seeds) = (self.corpus("corpus", name), self.corpus("seeds", name));
        fs_err::create_dir_all(&found)?;
        let least = workspace::target()?.join("fuzz-least");
        workspace::empty_directory(&least)?;
        let mut command = self.command(name)?;
        // Which branches are reached, but not how often: otherwise the corpus would be ten times as large.
        command.arg(&least).args([&seeds, &found]).arg("--").args(["-set_cover_merge=1", "-use_counters=0"]);
        output(&mut command, name)?;
        let before = count(&seeds)?;
        let inputs = most_useful(&least)?;
        ensure!(!inputs.is_empty(), "{name}: no input is left");
        workspace::empty_directory(&seeds)?;
        for input in &inputs {
            fs_err::copy(input, seeds.join(input.file_name().unwrap_or_default()))?;
        }
        println!("{name:<16} {before:>4} files before, {:>4} after", inputs.len());
        Ok(())
    }

    fn corpus(&self, kind: &str, name: &str) -> PathBuf {
        self.directory.join(kind).join(name)
    }

    /// Returns the command that builds and runs a target. Without a sanitizer, a stable toolchain can do it; unsafe
    /// code, which a sanitizer would watch, is one line.
    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir"]).arg(&self.directory);
        command.arg("--target-dir").arg(workspace::target()?.join("fuzz")).arg(name);
        command.current_dir(workspace::root());
        Ok(command)
    }
}

/// Returns the number of files in a directory.
fn count(directory: &Path) -> Result<usize> {
    Ok(fs_err::read_dir(directory)?.count())
}

/// Returns the files that libFuzzer has written to a directory, as many as a committed corpus may have. It writes first
/// what covers most, then what adds most to it.
fn most_useful(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        files.push((metadata.modified()?, metadata.len(), entry.path()));
    }
    files.sort();
    let mut total = 0;
    let within = files.into_iter().take(MOST_FILES).take_while(|(_, len, _)| {
        total += len;
        total <= MOST_BYTES
    });
    Ok(within.map(|(.., path)| path).collect())
}

/// The limits that the tests of `fuzz-targets` check.
const MOST_FILES: usize = 50;
const MOST_BYTES: u64 = 100 * 1024;

/// Runs a program to its end, and returns the last lines of its standard error. Prints them if it fails.
fn output(command: &mut Command, name: &str) -> Result<VecDeque<String>> {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
    let stderr = child.stderr.take().context("standard error is not piped")?;
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n') {
        if last.len() == LINES {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line?).into_owned());
    }
    if !child.wait()?.success() {
        for line in &last {
            eprintln!("{line}");
        }
        bail!("{name} failed; the lines above name the input, and the command that repeats it");
    }
    Ok(last)
}

/// The lines shown of a failure: the panic, the input, and what cargo-fuzz says of it.
const LINES: usize = 100;

/// Returns a number of libFuzzer's final statistics.
fn statistic(lines: &VecDeque<String>, name: &str) -> Result<u64> {
    let value =
        lines.iter().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
    let value = value.with_context(|| format!("libFuzzer printed no {name}"))?;
    Ok(value.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_statistic_is_found_by_its_name() {
        let lines = ["Done", "stat::number_of_executed_units: 1234", "stat::average_exec_per_sec:     7"];
        let lines = lines.map(str::to_owned).into();
        assert_eq!(statistic(&lines, "number_of_executed_units").unwrap(), 1234);
        assert_eq!(statistic(&lines, "average_exec_per_sec").unwrap(), 7);
        assert!(statistic(&lines, "average").is_err());
    }

    #[test]
    fn a_failure_is_a_failure_of_its_target() {
        let reason = output(Command::new("cargo").arg("no-such-command"), "inbound").unwrap_err().to_string();
        assert!(reason.starts_with("inbound failed"), "{reason}");
    }

    #[test]
    fn a_corpus_keeps_the_files_that_were_written_first() {
        let directory = std::env::temp_dir().join(format!("longwire-fuzz-{}", std::process::id()));
        workspace::empty_directory(&directory).unwrap();
        let write = |name: &str, len: usize, second: u64| {
            let path = directory.join(name);
            fs_err::write(&path, vec![0; len]).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        };
        for n in 1..=60 {
            write(&n.to_string(), 1, 100 - n);
        }
        let kept = most_useful(&directory).unwrap();
        assert_eq!((kept.len(), kept[0].ends_with("60"), kept[49].ends_with("11")), (MOST_FILES, true, true));
        write("large", 100 * 1024, 60);
        let kept = most_useful(&directory).unwrap();
        assert_eq!((kept.len(), kept[20].ends_with("40")), (21, true), "not more bytes than there may be");
        fs_err::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn an_unknown_target_is_named() {
        let arguments = Arguments { seconds: 1, minimize: false, targets: vec!["nothing".to_owned()] };
        let reason = run(&arguments, Install::Forbidden).unwrap_err().to_string();
        assert!(
            reason.starts_with("there is no target nothing; the targets are close_payload, "),
            "{reason}"
        );
    }
}
