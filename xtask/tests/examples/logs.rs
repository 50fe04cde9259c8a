//! The log in the guide is the one that the example prints.

use anyhow::{Result, ensure};
use xtask::{process::PATIENCE, workspace};

use super::start;

#[test]
fn logs() -> Result<()> {
    let page = fs_err::read_to_string(workspace::guide().join("logs.md"))?;
    let blocks: Vec<_> =
        page.split("```text\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    let [info, debug] = blocks[..] else { panic!("logs.md has {} logs, not two", blocks.len()) };
    for (arguments, told) in [(&[][..], info), (&["--debug"], debug)] {
        let printed = start("logs", arguments)?.succeed(PATIENCE)?.join("\n");
        let (told, printed) = (sections(told), sections(&printed));
        ensure!(told == printed, "logs {arguments:?} differs from the guide:\n{printed:#?}\n{told:#?}");
    }
    Ok(())
}

/// Returns the events of a log, each with its lines in any order: a server and its clients take turns.
fn sections(log: &str) -> Vec<Vec<String>> {
    let mut sections: Vec<Vec<String>> = Vec::new();
    for line in log.lines().map(without_numbers) {
        if line.starts_with("# ") {
            sections.push(vec![line]);
        } else if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    for section in &mut sections {
        section[1..].sort();
    }
    sections
}

/// Returns a line without ports, numbers of clients and times, which differ from run to run.
fn without_numbers(line: &str) -> String {
    let words = line.trim().split(' ').map(|word| match word.split_once('=') {
        Some((name @ ("retry_in" | "gap"), _)) => format!("{name}=…"),
        _ => word
            .split(|c: char| c.is_ascii_digit())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("…"),
    });
    words.collect::<Vec<_>>().join(" ")
}
