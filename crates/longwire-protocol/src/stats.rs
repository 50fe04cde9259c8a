//! Statistics of compression.

/// The compressed messages that have passed through one direction of a connection.
///
/// Messages sent uncompressed are not counted here. `+=` adds two directions or connections, and `-` yields the
/// difference from an earlier reading of the same direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompressionStats {
    /// Messages.
    pub messages: u64,
    /// Bytes of payload as the application sees them.
    pub payload_bytes: u64,
    /// Bytes of payload as they are on the wire, without the headers of frames.
    pub wire_bytes: u64,
}

impl CompressionStats {
    /// Returns the ratio of wire bytes to payload bytes: 0.25 for a quarter, 1.0 if nothing was compressed.
    #[allow(clippy::cast_precision_loss, reason = "2^53 bytes are more than a connection carries")]
    pub fn ratio(&self) -> f64 {
        if self.payload_bytes == 0 { 1.0 } else { self.wire_bytes as f64 / self.payload_bytes as f64 }
    }
}

impl std::ops::AddAssign for CompressionStats {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.payload_bytes += more.payload_bytes;
        self.wire_bytes += more.wire_bytes;
    }
}

impl std::ops::Sub for CompressionStats {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            messages: self.messages - earlier.messages,
            payload_bytes: self.payload_bytes - earlier.payload_bytes,
            wire_bytes: self.wire_bytes - earlier.wire_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_and_a_sum_are_opposites() {
        let earlier = CompressionStats { messages: 1, payload_bytes: 20, wire_bytes: 300 };
        let more = CompressionStats { messages: 4000, payload_bytes: 50_000, wire_bytes: 600_000 };
        let mut later = earlier;
        later += more;
        assert_eq!(later, CompressionStats { messages: 4001, payload_bytes: 50_020, wire_bytes: 600_300 });
        assert_eq!(later - earlier, more);
    }

    #[test]
    fn the_ratio_is_of_what_is_on_the_wire() {
        for (payload_bytes, wire_bytes, ratio) in
            [(0, 0, 1.0), (400, 100, 0.25), (10, 25, 2.5), (100, 0, 0.0)]
        {
            let stats = CompressionStats { messages: 1, payload_bytes, wire_bytes };
            assert!((stats.ratio() - ratio).abs() < 1e-9, "{stats:?}: {}", stats.ratio());
        }
    }
}
