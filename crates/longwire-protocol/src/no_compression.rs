//! Stand-ins for compression in builds without it: types that have no values.

use bytes::Bytes;
use longwire_frame::MaskingKey;

use crate::{Compress, CompressionStats, PreparedMessage, ProtocolError};

#[derive(Debug)]
pub(crate) enum Inflating {}

#[derive(Debug)]
pub(crate) enum Deflating {}

#[derive(Clone, Copy, Debug)]
pub(crate) enum InflateError {}

impl Inflating {
    pub(crate) fn inflate(
        &mut self,
        _: &[u8],
        _: Option<MaskingKey>,
        _: usize,
        _: &mut Vec<u8>,
        _: usize,
        _: usize,
    ) -> Result<usize, InflateError> {
        match *self {}
    }

    pub(crate) fn finish(&mut self, _: usize) -> Result<(), InflateError> {
        match *self {}
    }

    pub(crate) fn is_live(&self) -> bool {
        match *self {}
    }

    pub(crate) fn park(&mut self) {
        match *self {}
    }

    pub(crate) fn discard(&mut self) {
        match *self {}
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        match *self {}
    }
}

pub(crate) const CONTEXT_MEMORY: usize = 0;

pub(crate) const COMPRESSOR_MEMORY: usize = 0;

impl ProtocolError {
    pub(crate) fn of_inflating(error: InflateError, _: usize) -> Self {
        match error {}
    }
}

impl Deflating {
    pub(crate) fn wants(&self, _: usize, _: Compress) -> bool {
        match *self {}
    }

    pub(crate) fn message(&mut self, _: &[u8]) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn part(&mut self, _: &[u8], _: bool) -> Vec<u8> {
        match *self {}
    }

    pub(crate) fn prepared<'a>(&mut self, _: &'a PreparedMessage) -> Option<&'a Bytes> {
        match *self {}
    }

    pub(crate) fn is_live(&self) -> bool {
        match *self {}
    }

    pub(crate) fn park(&mut self) {
        match *self {}
    }

    pub(crate) fn abandon(&mut self) {
        match *self {}
    }

    pub(crate) fn stats(&self) -> CompressionStats {
        match *self {}
    }
}
