//! The table of the comparison: medians, ratios and geometric means of echoes.

use std::fmt::Write;

use super::{cells::Cell, data::Data, servers::Server};

/// The name of this table in the data.
pub(crate) const ECHO: &str = "echo";

/// The samples of echoes.
pub(crate) struct Results<'a> {
    data: &'a Data,
    cells: Vec<Cell>,
    servers: Vec<Server>,
}

impl<'a> Results<'a> {
    /// Reads the cells and servers that were measured.
    pub(crate) fn new(data: &'a Data) -> Self {
        let rows = data.rows(ECHO);
        let is_measured = |cell: &Cell| rows.contains(&&*cell.to_string());
        let measured = data.servers(ECHO);
        let mut servers: Vec<_> = measured.iter().filter_map(|name| Server::named(name)).collect();
        servers.sort();
        Self { data, cells: Cell::all().0.into_iter().filter(is_measured).collect(), servers }
    }

    /// Returns the median of a server's figures in a cell.
    fn median_of(&self, cell: usize, server: usize, figure: &str) -> Option<f64> {
        self.data.median((ECHO, &self.cells[cell].to_string(), self.servers[server].name()), figure)
    }

    /// Returns the factor of a server's CPU time per message to longwire's: the median of the rounds' ratios.
    fn ratio(&self, cell: usize, server: usize) -> Option<f64> {
        let place = (ECHO, &*self.cells[cell].to_string(), self.servers[server].name());
        self.data.ratio(place, Server::Longwire.name(), "cpu_us")
    }

    /// Returns the geometric mean of a server's ratios over some cells.
    pub(crate) fn mean_ratio(&self, server: Server, belongs: impl Fn(Cell) -> bool) -> Option<f64> {
        let server = self.servers.iter().position(|other| *other == server)?;
        let cells = (0..self.cells.len()).filter(|&cell| belongs(self.cells[cell]));
        geometric_mean(cells.filter_map(|cell| self.ratio(cell, server)))
    }

    /// Returns the servers that were measured.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns the ratio of the peer that took the least CPU by its median.
    ///
    /// The peer is chosen by the median, not anew in each round: the least of several noisy figures would not
    /// belong to any one peer.
    fn best_ratio(&self, cell: usize) -> Option<f64> {
        (0..self.servers.len())
            .filter(|&server| self.servers[server].is_peer())
            .filter_map(|server| Some((self.median_of(cell, server, "cpu_us")?, server)))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .and_then(|(_, best)| self.ratio(cell, best))
    }

    /// Returns the cells, the geometric means of their ratios, and the cells in which longwire falls behind.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        let rounds = self.data.setting("rounds");
        let seconds = self.data.setting("seconds");
        let _ = writeln!(
            out,
            "CPU time of the server for each message in µs (kernel included); medians of {rounds} rounds of {seconds} s.\n"
        );
        let _ =
            writeln!(out, "| cell | {} | longwire, messages/s | best peer / longwire |", names.join(" | "));
        let _ = writeln!(out, "|---|{}---|---|", "---|".repeat(names.len()));
        for (index, cell) in self.cells.iter().enumerate() {
            let _ = write!(out, "| {cell} |");
            for server in 0..self.servers.len() {
                let _ = write!(out, " {} |", shown(self.median_of(index, server, "cpu_us")));
            }
            let ours = self.servers.iter().position(|&server| server == Server::Longwire);
            let rate = ours.and_then(|ours| self.median_of(index, ours, "rate"));
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

pub(super) fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value.ln(), count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// Formats a value with three significant digits.
pub(super) fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value @ 100.0..) => format!("{value:.0}"),
        Some(value @ 10.0..) => format!("{value:.1}"),
        Some(value @ 1.0..) => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

pub(super) fn ratio_shown(ratio: Option<f64>) -> String {
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
    use super::{super::data::tests::empty, *};

    fn data(rounds: &[[f64; 3]]) -> Data {
        let mut data = empty();
        for (round, figures) in rounds.iter().enumerate() {
            for (server, &cpu_us) in [Server::Longwire, Server::Yawc, Server::Floor].into_iter().zip(figures)
            {
                let place = (ECHO, "16 B, conns 1, depth 1", server.name());
                data.add(place, round, [("cpu_us", cpu_us), ("rate", 1.0)]);
            }
        }
        data
    }

    #[test]
    fn a_yardstick_is_no_peer() {
        let data = data(&[[1.0, 1.5, 0.1], [2.0, 3.0, 0.1], [1.0, 1.4, 0.1]]);
        let results = Results::new(&data);
        assert_eq!(results.best_ratio(0), Some(1.5));
        let table = results.markdown();
        assert!(table.contains("| 16 B, conns 1, depth 1 | 1.00 | 1.50 | 0.100 | 1 | 1.50 |"), "{table}");
        assert!(table.contains("| all | 1.50 | 1.50 | 0.10 |"), "{table}");
        assert!(table.contains("best peer: none."), "{table}");
    }

    #[test]
    fn a_cell_where_a_peer_is_ahead_is_named() {
        let table = Results::new(&data(&[[1.0, 0.9, 0.9]])).markdown();
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
