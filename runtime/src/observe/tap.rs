//! A copy of one op's output.

use super::Observer;
use crate::{exec::Output, image::Op};

/// Copies what the op at one index writes.
#[derive(Debug)]
pub struct Tap<'s> {
    op: usize,
    copy: &'s mut [u8],
    len: usize,
}

impl<'s> Tap<'s> {
    /// Of op `op`, into `copy`; bytes that do not fit are left out.
    pub fn new(op: usize, copy: &'s mut [u8]) -> Self {
        Self { op, copy, len: 0 }
    }

    /// What the op wrote in the last run, `H W C`: nothing when there was no such op.
    pub fn bytes(&self) -> &[u8] {
        &self.copy[..self.len]
    }
}

impl Observer for Tap<'_> {
    fn input(&mut self, _: Output) {
        self.len = 0;
    }

    fn after(&mut self, op: &Op, output: Output) {
        if op.index == self.op {
            self.len = self.copy.len().min(output.len());
            self.copy[..self.len].copy_from_slice(&output.bytes()[..self.len]);
        }
    }
}
