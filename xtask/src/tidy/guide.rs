//! Requirements for the guide: its programs are compiled, its files are listed, and its links lead somewhere.

use super::File;

/// Its programs are short, and a table tells how short.
const PROGRAMS: &str = "docs/guide/programs.md";
const DIRECTORY: &str = "docs/guide/";
const INDEX: &str = "docs/guide/README.md";
/// Compiles the pages.
const COMPILER: &str = "examples/lib.rs";

/// Runs all checks.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let (index, compiler, dockerfile) = (text(INDEX), text(COMPILER), text("docs/guide/Dockerfile"));
    let mut complaints = Vec::new();
    for file in files {
        let Some(name) = file.path.strip_prefix(DIRECTORY) else { continue };
        if file.path != INDEX && !index.contains(&format!("]({name})")) {
            complaints.push(format!("{INDEX}: does not list {name}"));
        }
        if file.text.contains("```rust") && !compiler.contains(&format!("\"../{}\"", file.path)) {
            complaints.push(format!("{COMPILER}: does not compile {}", file.path));
        }
        if let Some(block) = block(&file.text, "dockerfile")
            && block != dockerfile
        {
            complaints.push(format!("{}: differs from the file Dockerfile", file.path));
        }
        if file.path == PROGRAMS && counted(&file.text) != lengths(&file.text) {
            let (told, are) = (counted(&file.text), lengths(&file.text));
            complaints
                .push(format!("{}: the programs have {are:?} lines, the table says {told:?}", file.path));
        }
        let is_there = |path: &str| {
            files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
        };
        let broken = links(&file.text).filter(|link| !is_there(&resolved(link)));
        complaints.extend(broken.map(|link| format!("{}: links to {link}, which is not there", file.path)));
    }
    complaints
}

/// Returns the contents of the first code block in a language.
fn block<'t>(text: &'t str, language: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("```{language}\n"))?;
    rest.split_once("```").map(|(block, _)| block)
}

/// Returns the numbers of lines that a table tells of its programs.
fn counted(text: &str) -> Vec<usize> {
    let rows = text.lines().filter(|line| line.starts_with("| [") && line.contains("](#"));
    rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(' ').next()?.parse().ok()).collect()
}

/// Returns the numbers of lines of a page's programs.
fn lengths(text: &str) -> Vec<usize> {
    let programs = text.split("\n```rust").skip(1);
    programs
        .filter_map(|rest| rest.split_once('\n')?.1.split_once("```"))
        .map(|(code, _)| code.lines().count())
        .collect()
}

/// Returns the links of a page to files of the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Returns the path from the root of a file that a page links to.
fn resolved(link: &str) -> String {
    let mut parts: Vec<_> = DIRECTORY.trim_end_matches('/').split('/').collect();
    for part in link.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    fn guide() -> Vec<File> {
        vec![
            file(INDEX, "[chat](chat.md), [Dockerfile](Dockerfile), [examples](../../examples)\n"),
            file(
                "docs/guide/chat.md",
                "```rust,no_run\nfn main() {}\n```\n[all](README.md) [a site](https://example.com)\n\
                 ```dockerfile\nFROM rust\n```\n",
            ),
            file("docs/guide/Dockerfile", "FROM rust\n"),
            file(COMPILER, "#[doc = include_str!(\"../docs/guide/chat.md\")]\nstruct Chat;\n"),
        ]
    }

    #[test]
    fn a_whole_guide_passes() {
        assert!(check(&guide()).is_empty(), "{:?}", check(&guide()));
    }

    #[test]
    fn each_fault_is_one_complaint() {
        for (fault, change, complaint) in [
            (
                "a page that is not compiled",
                (3, "struct Chat;\n"),
                "examples/lib.rs: does not compile docs/guide/chat.md",
            ),
            (
                "another Dockerfile",
                (2, "FROM scratch\n"),
                "docs/guide/chat.md: differs from the file Dockerfile",
            ),
            (
                "a file that is not listed",
                (0, "[chat](chat.md)\n"),
                "docs/guide/README.md: does not list Dockerfile",
            ),
            (
                "a broken link",
                (0, "[chat](chat.md) [Dockerfile](Dockerfile) [no](../no.md)\n"),
                "docs/guide/README.md: links to ../no.md, which is not there",
            ),
        ] {
            let mut files = guide();
            files[change.0].text = change.1.to_owned();
            assert_eq!(check(&files), [complaint], "{fault}");
        }
    }

    #[test]
    fn the_table_of_programs_tells_their_lengths() {
        let page = "| [a](#a) | 2 |\n| [b](#b) | 1 |\n\n```rust,no_run\nx\ny\n```\n```rust\nz\n```\n";
        assert_eq!((counted(page), lengths(page)), (vec![2, 1], vec![2, 1]));
        let complaints = |text: &str| {
            let found = check(&[file(PROGRAMS, text)]);
            found.into_iter().filter(|complaint| complaint.contains("lines")).count()
        };
        assert_eq!((complaints(page), complaints(&page.replace("| 2 |", "| 3 |"))), (0, 1));
    }
}
