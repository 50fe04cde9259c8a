//! The whole check: its parts, their order, and the table at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::{abuse, api, autobahn, browser, cargo, examples, interop, setup::Install, soak, tidy};

/// A part of the check: its own command, which repeats it, and its action.
type Part = (&'static str, fn(Install) -> Result<()>);

/// From cheap to expensive, so that a small mistake is reported quickly.
const PARTS: &[Part] = &[
    ("fmt", |_| cargo::fmt()),
    ("tidy", |_| tidy::run()),
    ("clippy", |_| cargo::clippy()),
    ("test", cargo::test),
    ("loom", |_| cargo::loom()),
    ("doctest", |_| cargo::doctest()),
    ("doc", |_| cargo::doc()),
    ("api", |_| api::check()),
    ("examples", examples::run),
    ("interop", |install| interop::run(&interop::Arguments::default(), install)),
    ("browser", |install| browser::run(&browser::Arguments::default(), install)),
    ("abuse --quick", |_| abuse::run(&abuse::Arguments::quick())),
    ("soak --quick", |_| soak::run(&soak::Arguments::quick())),
    ("autobahn", |install| autobahn::run(&autobahn::Arguments::default(), install)),
];

/// Runs the parts one after the other, and stops at the first that fails.
pub(crate) fn run(install: Install) -> Result<()> {
    let (table, outcome) = run_parts(PARTS, install);
    println!("\n{table}");
    outcome
}

fn run_parts(parts: &[Part], install: Install) -> (String, Result<()>) {
    let began = Instant::now();
    let mut rows = Vec::new();
    for &(command, part) in parts {
        let name = name(command);
        println!("\n== {name} ==");
        let part_began = Instant::now();
        let outcome = part(install);
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        rows.push((name, verdict, part_began.elapsed()));
        if let Err(reason) = outcome {
            let table = table(&rows, parts, began.elapsed());
            return (table, Err(anyhow!("{name} failed: {reason:#}\nto repeat it: cargo xtask {command}")));
        }
    }
    (table(&rows, parts, began.elapsed()), Ok(()))
}

/// The name of a part: the first word of its command.
fn name(command: &str) -> &str {
    command.split(' ').next().unwrap_or(command)
}

fn table(rows: &[(&str, &str, Duration)], parts: &[Part], total: Duration) -> String {
    let mut lines = vec![format!("{:<10} {:<8} {:>8}", "part", "result", "seconds")];
    for (name, verdict, time) in rows {
        lines.push(format!("{name:<10} {verdict:<8} {:>8.1}", time.as_secs_f64()));
    }
    for (command, _) in &parts[rows.len()..] {
        let name = name(command);
        lines.push(format!("{name:<10} {:<8} {:>8}", "not run", "-"));
    }
    lines.push(format!("{:<10} {:<8} {:>8.1}", "all", "", total.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_last_part_and_says_why() {
        let parts: &[Part] = &[
            ("one", |_| Ok(())),
            ("two --fast", |_| Err(anyhow!("the reason").context("the cause"))),
            ("three", |_| panic!("ran after a failure")),
        ];
        let (table, outcome) = run_parts(parts, Install::Allowed);
        let reason = outcome.unwrap_err().to_string();
        assert_eq!(reason, "two failed: the cause: the reason\nto repeat it: cargo xtask two --fast");
        let verdicts: Vec<_> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(verdicts[1][..2], ["one", "ok"]);
        assert_eq!(verdicts[2][..2], ["two", "FAILED"]);
        assert_eq!(verdicts[3], ["three", "not", "run", "-"]);
    }
}
