//! The raw figures of one part: what was measured, where, when, and of which versions.
//!
//! Owns their form as a file. Tables and plots are made from these values alone, so that a page can be made again, and
//! compared, without measuring.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xshell::cmd;

use super::{
    quiet,
    table::{geometric_mean, median},
};
use crate::workspace::{self, shell};

/// The figures of one part of the benchmarks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Data {
    pub(crate) about: About,
    /// The extent of the measurement: rounds, seconds and the like.
    pub(crate) settings: BTreeMap<String, f64>,
    pub(crate) records: Vec<Record>,
    /// The measurements that failed, which make the rest unfit to be kept.
    #[serde(skip)]
    pub(crate) failures: Vec<String>,
}

/// The circumstances of a measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) compiler: String,
    /// The commit of longwire, with a plus sign if the files had changes.
    pub(crate) commit: String,
    /// The versions of the other libraries and programs.
    pub(crate) versions: BTreeMap<String, String>,
    /// The part of the processors' time that was idle before the measurement.
    pub(crate) idle_before: f64,
    /// Whether it was a trial, too short for figures.
    pub(crate) trial: bool,
}

/// One measurement of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) table: String,
    pub(crate) row: String,
    pub(crate) server: String,
    pub(crate) round: usize,
    pub(crate) figures: BTreeMap<String, f64>,
    /// A result that is not a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Data {
    /// Begins a measurement.
    pub(crate) fn begin<const N: usize>(settings: [(&str, f64); N]) -> Result<Self> {
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        Ok(Self { about: About::now()?, settings, records: Vec::new(), failures: Vec::new() })
    }

    /// Adds a measurement.
    pub(crate) fn add<const N: usize>(
        &mut self,
        (table, row, server): (&str, &str, &str),
        round: usize,
        figures: [(&str, f64); N],
    ) -> &mut Record {
        let [table, row, server] = [table, row, server].map(str::to_owned);
        let figures = figures.map(|(name, value)| (name.to_owned(), value)).into();
        self.records.push(Record { table, row, server, round, figures, note: None });
        self.records.last_mut().expect("it was just added")
    }

    /// Returns a setting, or NaN if it was not recorded.
    pub(crate) fn setting(&self, name: &str) -> f64 {
        self.settings.get(name).copied().unwrap_or(f64::NAN)
    }

    /// Returns the rows of a table, in the order in which they were measured.
    pub(crate) fn rows<'a>(&'a self, table: &'a str) -> Vec<&'a str> {
        unique(self.of(table).map(|record| &*record.row))
    }

    /// Returns the servers of a table, in the order in which they were measured in the first round.
    pub(crate) fn servers<'a>(&'a self, table: &'a str) -> Vec<&'a str> {
        unique(self.of(table).map(|record| &*record.server))
    }

    fn of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.table == table)
    }

    /// Returns the records of a row and a server, one for each round.
    pub(crate) fn records<'a>(
        &'a self,
        (table, row, server): (&'a str, &'a str, &'a str),
    ) -> impl Iterator<Item = &'a Record> {
        self.of(table).filter(move |record| record.row == row && record.server == server)
    }

    /// Returns the median of a figure over the rounds.
    pub(crate) fn median(&self, place: (&str, &str, &str), figure: &str) -> Option<f64> {
        median(self.records(place).filter_map(|record| record.figures.get(figure).copied()).collect())
    }

    /// Returns the median of the ratios of a server's figure to another's in the same round, so that a disturbance
    /// affects both.
    pub(crate) fn ratio(&self, place: (&str, &str, &str), to: &str, figure: &str) -> Option<f64> {
        let (table, row, _) = place;
        let ratio = |record: &Record| {
            let other = self.records((table, row, to)).find(|other| other.round == record.round)?;
            Some(record.figures.get(figure)? / other.figures.get(figure)?)
        };
        median(self.records(place).filter_map(ratio).collect())
    }

    /// Returns the geometric mean of such ratios over rows.
    pub(crate) fn mean_ratio(
        &self,
        table: &str,
        server: &str,
        to: &str,
        figure: &str,
        belongs: impl Fn(&str) -> bool,
    ) -> Option<f64> {
        let rows = self.rows(table).into_iter().filter(|row| belongs(row));
        geometric_mean(rows.filter_map(|row| self.ratio((table, row, server), to, figure)))
    }

    /// Returns the text of a file: one line for each measurement.
    pub(crate) fn to_json(&self) -> Result<String> {
        let about = serde_json::to_string_pretty(&self.about)?.replace('\n', "\n  ");
        let settings = serde_json::to_string(&self.settings)?;
        let records: Vec<_> =
            self.records.iter().map(serde_json::to_string).collect::<serde_json::Result<_>>()?;
        let records = records.join(",\n    ");
        Ok(format!(
            "{{\n  \"about\": {about},\n  \"settings\": {settings},\n  \"records\": [\n    {records}\n  ]\n}}\n"
        ))
    }

    /// Reads the text of a file.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

impl About {
    fn now() -> Result<Self> {
        let cpus = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = processor.unwrap_or("an unknown processor").trim_start_matches([' ', '\t', ':']);
        let sh = shell()?;
        let commit = cmd!(sh, "git rev-parse --short=12 HEAD").quiet().read()?;
        let changed = !cmd!(sh, "git status --porcelain --untracked-files=no").quiet().read()?.is_empty();
        Ok(Self {
            date: cmd!(sh, "date +%F").quiet().read()?,
            processor: processor.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: cmd!(sh, "uname -sr").quiet().read()?,
            compiler: cmd!(sh, "rustc --version").quiet().read()?,
            commit: if changed { commit + "+" } else { commit },
            versions: versions()?,
            idle_before: quiet::idle()?,
            trial: false,
        })
    }

    /// Returns a line for the head of a table.
    pub(crate) fn line(&self) -> String {
        let Self { date, processor, cores, kernel, compiler, commit, idle_before, .. } = self;
        let busy = (1.0 - idle_before) * 100.0;
        let compiler = compiler.split(" (").next().unwrap_or(compiler);
        format!(
            "{date}, longwire at `{commit}`; {processor}, {cores} cores, {kernel}, {compiler}; other work before: \
             {busy:.0} % of the cores"
        )
    }
}

/// Returns the versions that the lock files of the peers name.
fn versions() -> Result<BTreeMap<String, String>> {
    let lock = fs_err::read_to_string(workspace::root().join("benches/Cargo.lock"))?;
    let mut versions: BTreeMap<_, _> = PEERS.iter().filter_map(|name| locked(&lock, name)).collect();
    let ws = fs_err::read_to_string(workspace::root().join("interop/package-lock.json"))?;
    let ws: serde_json::Value = serde_json::from_str(&ws).context("interop/package-lock.json")?;
    if let Some(version) = ws["packages"]["node_modules/ws"]["version"].as_str() {
        versions.insert("ws".to_owned(), version.to_owned());
    }
    let sh = shell()?;
    if let Ok(node) = cmd!(sh, "node --version").quiet().ignore_stderr().read() {
        versions.insert("node".to_owned(), node);
    }
    Ok(versions)
}

/// Returns a package of a lock file, and its version.
fn locked(lock: &str, name: &str) -> Option<(String, String)> {
    let start = lock.find(&format!("\nname = \"{name}\"\n"))?;
    let version = lock[start..].split('"').nth(3)?;
    Some((name.to_owned(), version.to_owned()))
}

const PEERS: [&str; 7] =
    ["axum", "fastwebsockets", "sockudo-ws", "tokio", "tokio-tungstenite", "tokio-websockets", "yawc"];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns data without records, as if measured on a quiet machine.
    pub(crate) fn empty() -> Data {
        let about = About {
            date: "2026-11-28".to_owned(),
            processor: "a processor".to_owned(),
            cores: 2,
            kernel: "Linux 6".to_owned(),
            compiler: "rustc 1.95.0 (abc 2026-01-01)".to_owned(),
            commit: "0123456789ab".to_owned(),
            versions: BTreeMap::new(),
            idle_before: 0.99,
            trial: false,
        };
        Data { about, settings: BTreeMap::new(), records: Vec::new(), failures: Vec::new() }
    }

    #[test]
    fn figures_survive_the_file() {
        let mut data = empty();
        data.settings.insert("rounds".to_owned(), 3.0);
        data.add(("echo", "16 B", "longwire"), 0, [("cpu_us", 0.1 + 0.2)]).note = Some("a note".to_owned());
        data.add(("echo", "16 B", "longwire"), 1, [("cpu_us", 2.0)]);
        let text = data.to_json().unwrap();
        assert!(text.ends_with("}\n") && text.lines().count() > 15, "{text}");
        let read = Data::from_json(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{data:?}"));
        assert_eq!(read.to_json().unwrap(), text);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut data = empty();
        // The machine was twice as slow in the second round.
        for (round, ours, theirs) in [(0, 1.0, 1.5), (1, 2.0, 3.0), (2, 1.0, 1.4)] {
            data.add(("echo", "16 B", "yawc"), round, [("cpu_us", theirs)]);
            data.add(("echo", "16 B", "longwire"), round, [("cpu_us", ours)]);
        }
        let place = ("echo", "16 B", "yawc");
        assert_eq!(data.ratio(place, "longwire", "cpu_us"), Some(1.5));
        assert_eq!(data.median(place, "cpu_us"), Some(1.5));
        assert_eq!(data.median(place, "other"), None);
        assert_eq!(data.mean_ratio("echo", "yawc", "longwire", "cpu_us", |_| false), None);
        assert_eq!((data.rows("echo"), data.servers("echo")), (vec!["16 B"], vec!["yawc", "longwire"]));
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "\n[[package]]\nname = \"yawc\"\nversion = \"0.5.1\"\n\n[[package]]\nname = \"yawc2\"\n";
        assert_eq!(locked(lock, "yawc"), Some(("yawc".to_owned(), "0.5.1".to_owned())));
        assert_eq!(locked(lock, "axum"), None);
    }
}
