//! All parts in one run: the raw figures as files, and the page, its plots and the README's made from them.
//!
//! Figures belong into the documentation only if the machine was quiet, so a busy one is refused. `--quick` and
//! `--output` write into another directory, where the page can be looked at, too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, ValueEnum};

use super::{
    Server, axum, broadcast, cores, data::Data, deflate, dependencies, idle, instructions, load, page, plot,
    quiet, table::Results,
};
use crate::{setup::Install, workspace};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A short trial of each part, written to `target/bench-report`.
    #[arg(long, conflicts_with = "from_data")]
    quick: bool,
    /// Measure nothing: make the page and the plots from the figures that are there.
    #[arg(long)]
    from_data: bool,
    /// Only these parts; the figures of the others stay.
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "from_data")]
    parts: Vec<Part>,
    /// Write the figures, the page and the plots here instead of into the documentation, on a busy machine as well.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

/// A part of the report. Its figures are in the file of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    Echo,
    Cores,
    Instructions,
    Memory,
    Memory100k,
    Axum,
    Broadcast,
    Deflate,
    Dependencies,
}

impl Part {
    /// Returns the name of its file, without the extension.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Cores => "cores",
            Self::Instructions => "instructions",
            Self::Memory => "memory",
            Self::Memory100k => "memory-100k",
            Self::Axum => "axum",
            Self::Broadcast => "broadcast",
            Self::Deflate => "deflate",
            Self::Dependencies => "dependencies",
        }
    }

    /// Returns the names of its blocks in the page.
    pub(crate) fn blocks(self) -> &'static [&'static str] {
        match self {
            Self::Echo => &["echo"],
            Self::Cores => &["cores"],
            Self::Instructions => &["instructions"],
            Self::Memory => &["memory"],
            Self::Memory100k => &["memory-100k"],
            Self::Axum => &["axum"],
            Self::Broadcast => &["broadcast/rate", "broadcast/stalled"],
            Self::Deflate => &["deflate/echo", "deflate/many", "deflate/idle", "deflate/fanout"],
            Self::Dependencies => &["dependencies"],
        }
    }

    /// Returns its tables as Markdown, each with the name of its block.
    pub(crate) fn tables(self, data: &Data) -> Vec<(&'static str, String)> {
        match self {
            Self::Echo => vec![("echo", Results::new(data).markdown())],
            Self::Cores => cores::tables(data),
            Self::Instructions => instructions::tables(data),
            Self::Memory => idle::tables("memory", data),
            Self::Memory100k => idle::tables("memory-100k", data),
            Self::Axum => axum::tables(data),
            Self::Broadcast => broadcast::tables(data),
            Self::Deflate => deflate::tables(data),
            Self::Dependencies => dependencies::tables(data),
        }
    }

    fn measure(self, quick: bool, install: Install) -> Result<Data> {
        let all = &Server::COMPARED[..];
        let rounds = |rounds| if quick { 1 } else { rounds };
        let seconds = |seconds| if quick { QUICK_SECONDS } else { seconds };
        match self {
            Self::Echo => {
                let cells = if quick {
                    vec!["16 B, conns 64".to_owned(), "64 KiB, conns 64".to_owned()]
                } else {
                    vec![]
                };
                load::measure(&load::Extent { quick, rounds: rounds(3), seconds: seconds(0.5), cells }, all)
            }
            Self::Cores => cores::measure(&cores::Arguments {
                threads: 2,
                rounds: rounds(5),
                seconds: seconds(1.0),
                quick,
            }),
            Self::Instructions => {
                // sockudo-ws alone takes half a minute under valgrind.
                let servers = if quick { &[Server::Longwire, Server::Floor][..] } else { all };
                instructions::measure(&instructions::Arguments { quick }, servers)
            }
            Self::Memory => {
                let connections = if quick { 500 } else { 10_000 };
                let most_memory = idle::MOST_MEMORY;
                idle::measure(&idle::Arguments { connections, ours: false, fresh: false, most_memory }, all)
            }
            Self::Memory100k => {
                let connections = if quick { 1000 } else { 100_000 };
                let most_memory = idle::MOST_MEMORY;
                idle::measure(&idle::Arguments { connections, ours: true, fresh: true, most_memory }, all)
            }
            Self::Axum => axum::measure(&axum::Arguments { rounds: rounds(7), seconds: seconds(0.5) }),
            Self::Broadcast => {
                let conns = quick.then_some(500);
                let arguments = broadcast::Arguments {
                    conns,
                    in_flight: vec![1, 4],
                    rounds: rounds(5),
                    seconds: seconds(3.0),
                    size: 1024,
                    readers: if quick { 100 } else { 1000 },
                    backlog: if quick { 1 } else { 4 },
                    only: None,
                };
                broadcast::measure(&arguments, install)
            }
            Self::Deflate => {
                let conns = if quick { 100 } else { 1000 };
                let arguments =
                    deflate::Arguments { rounds: rounds(5), seconds: seconds(0.5), conns, only: None, quick };
                deflate::measure(&arguments, install)
            }
            Self::Dependencies => {
                dependencies::measure(&dependencies::Arguments { rounds: rounds(2), quick })
            }
        }
    }
}

/// Measures, keeps the figures, and makes the page.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let root = workspace::root();
    let output = match (&arguments.output, arguments.quick) {
        (Some(output), _) => output.clone(),
        (None, true) => workspace::target()?.join("bench-report"),
        (None, false) => root.clone(),
    };
    let is_elsewhere = output != root;
    if is_elsewhere {
        fs_err::create_dir_all(output.join(page::DATA))?;
        for page in page::PAGES {
            fs_err::copy(root.join(page), output.join(page))?;
        }
    }
    let mut failures = Vec::new();
    if !arguments.from_data {
        let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
        if !is_elsewhere {
            // Built now, so that no part finds the machine busy with it.
            super::servers::Programs::build()?;
        }
        for &part in parts {
            eprintln!("== {} ==", part.name());
            if let Err(reason) = measure(part, arguments.quick, is_elsewhere, install, &output) {
                eprintln!("{}: {reason:#}", part.name());
                failures.push(format!("{}: {reason:#}", part.name()));
            }
        }
    }
    for path in render(&output)? {
        println!("{}", path.display());
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn measure(part: Part, quick: bool, may_be_busy: bool, install: Install, output: &Path) -> Result<()> {
    if !may_be_busy {
        quiet::wait()?;
    }
    let mut data = part.measure(quick, install)?;
    ensure!(data.failures.is_empty(), "{}", data.failures.join("\n"));
    data.about.trial = quick;
    let directory = output.join(page::DATA);
    fs_err::create_dir_all(&directory)?;
    Ok(fs_err::write(directory.join(part.name()).with_extension("json"), data.to_json()?)?)
}

/// Writes the pages and plots of a directory from its figures, and returns the paths of the files.
fn render(output: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for &part in Part::value_variants() {
        let path = output.join(page::DATA).join(part.name()).with_extension("json");
        if path.is_file() {
            let data = Data::from_json(&fs_err::read_to_string(&path)?);
            parts.push((part, data.with_context(|| path.display().to_string())?));
        }
    }
    let plots = plot::all(&parts);
    let mut written = Vec::new();
    for (name, text) in &plots {
        let path = output.join(page::DATA).join(name);
        fs_err::write(&path, text)?;
        written.push(path);
    }
    let blocks = page::blocks(&parts, &plots);
    for page in page::PAGES {
        let path = output.join(page);
        let text = page::fill(&fs_err::read_to_string(&path)?, &blocks)
            .map_err(|reason| anyhow!("{page}: {reason}"))?;
        fs_err::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

const QUICK_SECONDS: f64 = 0.2;
