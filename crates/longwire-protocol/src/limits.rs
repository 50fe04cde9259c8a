//! Limits on what a peer may make this end hold (RFC 6455 §10.4).

/// Limits on what the peer sends, enforced at each frame's header before its payload is looked at.
///
/// # Examples
///
/// ```
/// use longwire_protocol::Limits;
///
/// let chat = Limits::default().with_max_message(64 * 1024);
/// assert_eq!(chat.max_frame, Some(16 * 1024 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message in bytes, over all of its frames. Default 16 MiB; `None` is no limit.
    ///
    /// If a frame exceeds it, the connection fails with close code 1009 at that frame's header.
    pub max_message: Option<usize>,
    /// The longest frame in bytes. Default 16 MiB; `None` is no limit other than that of messages.
    ///
    /// If a frame exceeds it, the connection fails with close code 1009.
    pub max_frame: Option<usize>,
    /// The most frames that a message may consist of, including empty ones. Default 131 072, twice what the conformance
    /// suite sends; `None` is no limit.
    ///
    /// If a message exceeds it, the connection fails with close code 1008. Frames are gathered in one buffer, so the
    /// count bounds work, not memory: an endless run of empty frames would otherwise never reach a limit.
    pub max_fragments: Option<u32>,
}

impl Limits {
    /// Without a limit, a length that cannot be addressed still cannot be received.
    pub(crate) const ADDRESSABLE: usize = isize::MAX.unsigned_abs();

    /// Returns the smallest length at which an uncompressed message of one frame exceeds one of the limits.
    pub(crate) fn too_long(&self) -> u64 {
        if self.max_fragments == Some(0) {
            return 0;
        }
        let max = |limit: Option<usize>| limit.unwrap_or(Self::ADDRESSABLE).min(Self::ADDRESSABLE);
        max(self.max_message).min(max(self.max_frame)) as u64 + 1
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: Some(16 << 20), max_frame: Some(16 << 20), max_fragments: Some(128 << 10) }
    }
}

impl Limits {
    /// Sets [`max_message`](Self::max_message).
    #[must_use]
    pub fn with_max_message(mut self, max_message: impl Into<Option<usize>>) -> Self {
        self.max_message = max_message.into();
        self
    }

    /// Sets [`max_frame`](Self::max_frame).
    #[must_use]
    pub fn with_max_frame(mut self, max_frame: impl Into<Option<usize>>) -> Self {
        self.max_frame = max_frame.into();
        self
    }

    /// Sets [`max_fragments`](Self::max_fragments).
    #[must_use]
    pub fn with_max_fragments(mut self, max_fragments: impl Into<Option<u32>>) -> Self {
        self.max_fragments = max_fragments.into();
        self
    }
}
