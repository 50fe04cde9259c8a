//! The bounds on an attack's effect on a server, the violations, and the rows of the table.
//!
//! Owns judging and printing. Nothing here measures, so every rule is tested with invented figures.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Result;

/// The way in which one attacker's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// A close frame with this code, and nothing after it.
    Close(u16),
    /// A response with this status, and nothing after it.
    Status(u16),
    /// The end of the stream without anything before it.
    Ended,
    /// A reset without anything before it.
    Reset,
    /// The server kept the connection until the attacker left, as it should.
    Open,
    /// The server dropped the connection while the attacker held on to it.
    Dropped,
    /// The attacker left immediately, and saw nothing.
    Left,
    /// A handshake that succeeded, or messages that all came back, between the attacks.
    Served,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close(code) => write!(f, "close {code}"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Ended => f.write_str("end"),
            Self::Reset => f.write_str("reset"),
            Self::Open => f.write_str("still open"),
            Self::Dropped => f.write_str("dropped"),
            Self::Left => f.write_str("left"),
            Self::Served => f.write_str("served"),
        }
    }
}

/// The ways in which all connections of an attack ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(BTreeMap<End, usize>);

impl Tally {
    /// Counts ends.
    pub(super) fn add(&mut self, end: End, count: usize) {
        *self.0.entry(end).or_default() += count;
    }
}

impl FromIterator<End> for Tally {
    fn from_iter<I: IntoIterator<Item = End>>(ends: I) -> Self {
        let mut tally = Self::default();
        ends.into_iter().for_each(|end| tally.add(end, 1));
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (end, count)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{end} ×{count}")?;
        }
        Ok(())
    }
}

/// The times that echoes took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// Takes samples in any order.
    pub(super) fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self { sorted: samples }
    }

    /// Returns the sample that `percent` of all do not exceed; zero if there are none.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Returns the number of samples.
    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// The effects of an attack.
#[derive(Debug)]
pub(super) struct Measured {
    /// The ways in which the attackers' connections ended, or the failure.
    pub(super) ends: Result<Tally>,
    /// The number of bytes by which the server's memory grew at its peak.
    pub(super) growth: u64,
    /// Descriptors before the attack, at most during it, and at the end.
    pub(super) descriptors: [usize; 3],
    /// The time from the attackers' departure until no more descriptors were open than before; `None` if too long.
    pub(super) back: Option<Duration>,
    /// The honest client's latencies, and the reason why it stopped, if it did.
    pub(super) latencies: Latencies,
    pub(super) healthy: Result<()>,
    /// The result of serving a new client afterwards, or the reason it failed.
    pub(super) alive: Result<()>,
    /// The duration of the attack.
    pub(super) lasted: Duration,
}

/// The permitted effects of an attack. The defaults apply to every attack.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Bytes of growth.
    pub(super) growth: u64,
    /// The honest client's 99th percentile.
    pub(super) p99: Duration,
    /// The longest time of any echo of the honest client.
    pub(super) max: Duration,
    /// The time until all descriptors are closed again.
    pub(super) back: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            growth: 64 << 20,
            p99: Duration::from_millis(400),
            max: Duration::from_secs(2),
            back: Duration::from_secs(15),
        }
    }
}

/// Returns the violations in an attack's figures; empty if all bounds hold.
pub(super) fn faults(measured: &Measured, allowed: &[End], bounds: &Bounds) -> Vec<String> {
    let mut faults = Vec::new();
    match &measured.ends {
        Ok(tally) => {
            if tally.0.is_empty() {
                faults.push("no attacker's connection ended".to_owned());
            }
            let others = tally.0.iter().filter(|(end, _)| !allowed.contains(end));
            faults.extend(others.map(|(end, count)| format!("{end} ×{count} is not how it should end")));
        }
        Err(reason) => faults.push(format!("{reason:#}")),
    }
    if measured.growth > bounds.growth {
        faults.push(format!("memory grew by {}, {} are allowed", mib(measured.growth), mib(bounds.growth)));
    }
    match measured.back {
        Some(back) if back <= bounds.back => {}
        _ => faults.push(format!(
            "descriptors {} of {} were not back in {} s",
            measured.descriptors[2],
            measured.descriptors[0],
            bounds.back.as_secs()
        )),
    }
    if let Err(reason) = &measured.healthy {
        faults.push(format!("the honest client: {reason:#}"));
    }
    if measured.latencies.count() == 0 {
        faults.push("the honest client had no echo".to_owned());
    }
    for (name, seen, bound) in [
        ("p99", measured.latencies.percentile(99), bounds.p99),
        ("longest", measured.latencies.percentile(100), bounds.max),
    ] {
        if seen >= bound {
            faults.push(format!("the honest client's {name} echo took {} ms", millis(seen)));
        }
    }
    if let Err(reason) = &measured.alive {
        faults.push(format!("the server afterwards: {reason:#}"));
    }
    faults
}

/// The head of the table.
pub(super) const HEAD: &str = "| attack | ended | memory | descriptors | back after | \
                               honest client: p50, p99, max | took |\n\
                               |---|---|---|---|---|---|---|";

/// A row of the table.
pub(super) fn row(name: &str, measured: &Measured) -> String {
    let ends = match &measured.ends {
        Ok(tally) => tally.to_string(),
        Err(_) => "FAILED".to_owned(),
    };
    let [before, during, after] = measured.descriptors;
    let back = measured.back.map_or_else(|| "never".to_owned(), seconds);
    let [p50, p99, max] = [50, 99, 100].map(|percent| millis(measured.latencies.percentile(percent)));
    format!(
        "| {name} | {ends} | +{} | {before}, {during}, {after} | {back} | {p50}, {p99}, {max} ms | {} |",
        mib(measured.growth),
        seconds(measured.lasted)
    )
}

fn mib(bytes: u64) -> String {
    let tenths = (bytes * 10 + (1 << 19)) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn ms(millis: &[u64]) -> Latencies {
        Latencies::new(millis.iter().copied().map(Duration::from_millis).collect())
    }

    fn good() -> Measured {
        Measured {
            ends: Ok([End::Close(1008), End::Close(1008), End::Ended].into_iter().collect()),
            growth: 64 << 20,
            descriptors: [10, 12, 10],
            back: Some(Duration::from_secs(15)),
            latencies: ms(&[1, 2, 399]),
            healthy: Ok(()),
            alive: Ok(()),
            lasted: Duration::from_millis(1500),
        }
    }

    const ALLOWED: &[End] = &[End::Close(1008), End::Ended];

    #[test]
    fn figures_at_their_bounds_pass() {
        assert_eq!(faults(&good(), ALLOWED, &Bounds::default()), Vec::<String>::new());
    }

    #[test]
    fn every_bound_is_one() {
        type Break = fn(&mut Measured);
        let slow_tail: Break = |measured| {
            let mut samples = vec![1; 999];
            samples.push(2000);
            measured.latencies = ms(&samples);
        };
        let breaks: &[(&str, Break, &str)] = &[
            ("a wrong end", |m| m.ends = Ok([End::Open].into_iter().collect()), "still open ×1"),
            ("no end", |m| m.ends = Ok(Tally::default()), "no attacker"),
            ("a failure", |m| m.ends = Err(anyhow!("refused")), "refused"),
            ("memory", |m| m.growth += 1, "memory grew by 64.0 MiB"),
            ("late descriptors", |m| m.back = Some(Duration::from_millis(15_001)), "descriptors"),
            ("lost descriptors", |m| m.back = None, "descriptors"),
            ("p99", |m| m.latencies = ms(&[1, 400]), "p99 echo took 400 ms"),
            ("one long echo", slow_tail, "longest echo took 2000 ms"),
            ("no echo", |m| m.latencies = ms(&[]), "had no echo"),
            ("a lost client", |m| m.healthy = Err(anyhow!("cut off")), "cut off"),
            ("a dead server", |m| m.alive = Err(anyhow!("gone")), "gone"),
        ];
        for (case, break_it, word) in breaks {
            let mut measured = good();
            break_it(&mut measured);
            let faults = faults(&measured, ALLOWED, &Bounds::default());
            assert!(faults.len() == 1 && faults[0].contains(word), "{case}: {faults:?}");
        }
    }

    #[test]
    fn percentiles_are_samples() {
        let hundred = ms(&(1..=100).rev().collect::<Vec<_>>());
        for (latencies, percent, expected) in [
            (&hundred, 50, 50),
            (&hundred, 99, 99),
            (&hundred, 100, 100),
            (&ms(&[7]), 50, 7),
            (&ms(&[7, 9]), 50, 7),
            (&ms(&[7, 9]), 99, 9),
            (&ms(&[]), 99, 0),
        ] {
            assert_eq!(latencies.percentile(percent), Duration::from_millis(expected), "{percent}");
        }
    }

    #[test]
    fn a_row_says_it_all() {
        assert_eq!(
            row("empty fragments", &good()),
            "| empty fragments | close 1008 ×2, end ×1 | +64.0 MiB | 10, 12, 10 | 15.0 s | \
             2.0, 399, 399 ms | 1.5 s |"
        );
        let columns = |line: &str| line.matches('|').count();
        assert!(HEAD.lines().all(|line| columns(line) == columns(&row("x", &good()))));
    }
}
