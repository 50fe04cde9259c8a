//! The cells of the comparison: message size, connections, messages in flight on each.

use std::fmt;

/// One combination to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) size: usize,
    pub(crate) conns: usize,
    pub(crate) depth: usize,
}

impl Cell {
    /// Payload bytes in flight at once.
    fn in_flight(self) -> usize {
        self.size * self.conns * self.depth
    }

    /// Returns all cells to measure, and those that would need too much memory.
    pub(crate) fn all() -> (Vec<Self>, Vec<Self>) {
        let mut cells = Vec::new();
        for depth in DEPTHS {
            for conns in CONNS {
                cells.extend(SIZES.map(|size| Self { size, conns, depth }));
            }
        }
        cells.into_iter().partition(|cell| cell.in_flight() <= MOST_IN_FLIGHT)
    }

    /// Returns the arguments for the load generator.
    pub(crate) fn arguments(self) -> Vec<String> {
        let words = [("--size", self.size), ("--conns", self.conns), ("--depth", self.depth)];
        words.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_string()]).collect()
    }

    /// Returns whether the cell belongs to the few that quickly show whether something is wrong.
    pub(crate) fn is_quick(self) -> bool {
        self.conns <= 64 && matches!(self.size, 16 | 1024 | 65536)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            1_048_576.. => write!(f, "{} MiB", self.size >> 20)?,
            1024.. => write!(f, "{} KiB", self.size >> 10)?,
            _ => write!(f, "{} B", self.size)?,
        }
        write!(f, ", conns {}, depth {}", self.conns, self.depth)
    }
}

const SIZES: [usize; 6] = [16, 125, 1024, 16 * 1024, 64 * 1024, 1024 * 1024];
const CONNS: [usize; 3] = [1, 64, 1000];
const DEPTHS: [usize; 2] = [1, 16];

/// The server, the kernel and the load generator may each hold this many bytes.
const MOST_IN_FLIGHT: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_need_too_much_memory_are_left_out() {
        let (cells, skipped) = Cell::all();
        assert_eq!((cells.len(), skipped.len()), (32, 4));
        assert_eq!(cells[0].to_string(), "16 B, conns 1, depth 1");
        assert_eq!(skipped[0].to_string(), "1 MiB, conns 1000, depth 1");
        assert!(cells.contains(&Cell { size: 16384, conns: 1000, depth: 16 }));
    }
}
