//! Samples to medians, ratios, geometric means and the table.

use std::fmt::Write;

use super::{cells::Cell, servers::Server};

/// The performance of one server in one cell of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// CPU time for each message, in µs.
    pub(crate) cpu_us: f64,
    /// Messages echoed per second.
    pub(crate) rate: f64,
}

/// All samples.
pub(crate) struct Results {
    cells: Vec<Cell>,
    servers: Vec<Server>,
    /// By cell, then round, then server; `None` if the measurement failed.
    samples: Vec<Vec<Vec<Option<Sample>>>>,
}

impl Results {
    /// Creates an empty set of results.
    pub(crate) fn new(cells: Vec<Cell>, servers: Vec<Server>) -> Self {
        let samples = vec![Vec::new(); cells.len()];
        Self { cells, servers, samples }
    }

    /// Opens the next round of a cell: samples added from now on are compared with each other.
    pub(crate) fn begin_round(&mut self, cell: usize) {
        self.samples[cell].push(vec![None; self.servers.len()]);
    }

    /// Adds a server's sample in the newest round of a cell.
    pub(crate) fn add(&mut self, cell: usize, server: usize, sample: Sample) {
        if let Some(round) = self.samples[cell].last_mut() {
            round[server] = Some(sample);
        }
    }

    /// Returns the median of a server's figures in a cell.
    fn median_of(&self, cell: usize, server: usize, figure: impl Fn(Sample) -> f64) -> Option<f64> {
        median(self.samples[cell].iter().filter_map(|round| round[server].map(&figure)).collect())
    }

    /// Returns the factor of a server's CPU time per message to longwire's: the median of the rounds' ratios.
    fn ratio(&self, cell: usize, server: usize) -> Option<f64> {
        let ours = self.servers.iter().position(|&server| server == Server::Longwire)?;
        let of_round = |round: &Vec<Option<Sample>>| Some(round[server]?.cpu_us / round[ours]?.cpu_us);
        median(self.samples[cell].iter().filter_map(of_round).collect())
    }

    /// Returns the ratio of the peer that took the least CPU by its median.
    ///
    /// The peer is chosen by the median, not anew in each round: the least of several noisy figures would not
    /// belong to any one peer.
    fn best_ratio(&self, cell: usize) -> Option<f64> {
        (0..self.servers.len())
            .filter(|&server| self.servers[server].is_peer())
            .filter_map(|server| Some((self.median_of(cell, server, |sample| sample.cpu_us)?, server)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .and_then(|(_, best)| self.ratio(cell, best))
    }

    /// Returns the cells, the geometric means of their ratios, and the cells in which longwire falls behind.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        out += "CPU time of the server for each message in µs (kernel included), medians of the rounds.\n\n";
        let _ =
            writeln!(out, "| cell | {} | longwire, messages/s | best peer / longwire |", names.join(" | "));
        let _ = writeln!(out, "|---|{}---|---|", "---|".repeat(names.len()));
        for (index, cell) in self.cells.iter().enumerate() {
            let _ = write!(out, "| {cell} |");
            for server in 0..self.servers.len() {
                let _ = write!(out, " {} |", shown(self.median_of(index, server, |sample| sample.cpu_us)));
            }
            let ours = self.servers.iter().position(|&server| server == Server::Longwire);
            let rate = ours.and_then(|ours| self.median_of(index, ours, |sample| sample.rate));
            let rate = rate.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
            let _ = writeln!(out, " {rate} | {} |", ratio_shown(self.best_ratio(index)));
        }

        let others: Vec<_> =
            (0..self.servers.len()).filter(|&server| self.servers[server] != Server::Longwire).collect();
        let names: Vec<_> = others.iter().map(|&server| names[server]).collect();
        out += "\nGeometric means of the ratios to longwire; above 1 longwire takes less CPU.\n\n";
        let _ = writeln!(out, "| cells | best peer of each cell | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(names.len()));
        for (group, belongs) in GROUPS {
            let cells: Vec<_> = (0..self.cells.len()).filter(|&cell| belongs(self.cells[cell])).collect();
            let mean = |ratio: &dyn Fn(usize) -> Option<f64>| {
                ratio_shown(geometric_mean(cells.iter().filter_map(|&cell| ratio(cell))))
            };
            let _ = write!(out, "| {group} | {} |", mean(&|cell| self.best_ratio(cell)));
            for &server in &others {
                let _ = write!(out, " {} |", mean(&|cell| self.ratio(cell, server)));
            }
            out.push('\n');
        }

        let behind: Vec<_> = (0..self.cells.len())
            .filter_map(|cell| Some((self.cells[cell], self.best_ratio(cell)?)))
            .filter(|(_, ratio)| *ratio < LEAST)
            .map(|(cell, ratio)| format!("{cell} ({ratio:.2})"))
            .collect();
        let behind = if behind.is_empty() { "none".to_owned() } else { behind.join("; ") };
        let _ = writeln!(out, "\nCells below {LEAST} of the best peer: {behind}.");
        out
    }
}

/// Returns the middle value, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value.ln(), count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// Formats a value with three significant digits.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value @ 100.0..) => format!("{value:.0}"),
        Some(value @ 10.0..) => format!("{value:.1}"),
        Some(value @ 1.0..) => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn ratio_shown(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
}

type Group = (&'static str, fn(Cell) -> bool);

const GROUPS: [Group; 6] = [
    ("depth 1", |cell| cell.depth == 1),
    ("depth 1, up to 1 KiB", |cell| cell.depth == 1 && cell.size <= 1024),
    ("depth 1, from 16 KiB", |cell| cell.depth == 1 && cell.size > 1024),
    ("depth 16, up to 1 KiB", |cell| cell.depth == 16 && cell.size <= 1024),
    ("depth 16, from 16 KiB", |cell| cell.depth == 16 && cell.size > 1024),
    ("all", |_| true),
];

/// A cell below this is a failure, or noise that a repetition must show to be noise.
const LEAST: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rounds: &[[f64; 3]]) -> Results {
        let cell = Cell { size: 16, conns: 1, depth: 1 };
        let servers = vec![Server::Longwire, Server::Yawc, Server::Raw];
        let mut results = Results::new(vec![cell], servers);
        for round in rounds {
            results.begin_round(0);
            for (server, &cpu_us) in round.iter().enumerate() {
                results.add(0, server, Sample { cpu_us, rate: 1.0 });
            }
        }
        results
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round.
        let results = results(&[[1.0, 1.5, 0.1], [2.0, 3.0, 0.1], [1.0, 1.4, 0.1]]);
        assert_eq!(results.ratio(0, 1), Some(1.5));
        assert_eq!(results.best_ratio(0), Some(1.5), "the yardstick is no peer");
        let table = results.markdown();
        assert!(table.contains("| 16 B, conns 1, depth 1 | 1.00 | 1.50 | 0.100 | 1 | 1.50 |"), "{table}");
        assert!(table.contains("best peer: none."), "{table}");
    }

    #[test]
    fn a_cell_where_a_peer_is_ahead_is_named() {
        let table = results(&[[1.0, 0.9, 0.9]]).markdown();
        assert!(table.contains("best peer: 16 B, conns 1, depth 1 (0.90)."), "{table}");
    }

    #[test]
    fn medians_and_means() {
        for (values, expected) in
            [(vec![], None), (vec![3.0, 1.0, 2.0], Some(2.0)), (vec![4.0, 1.0, 2.0, 3.0], Some(2.5))]
        {
            assert_eq!(median(values), expected);
        }
        let mean = geometric_mean([1.0, 4.0].into_iter()).unwrap();
        assert!((mean - 2.0).abs() < 1e-9, "{mean}");
        assert_eq!(geometric_mean([].into_iter()), None);
    }
}
