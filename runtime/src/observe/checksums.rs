//! A checksum of every op's output: finds the first op in which two runs differ at the cost of four bytes an op.

use super::Observer;
use crate::{exec::Output, image::Op, image::crc32};

/// Notes the CRC-32 of what each op writes, at the op's index.
#[derive(Debug)]
pub struct Checksums<'s> {
    sums: &'s mut [u32],
    seen: usize,
}

impl<'s> Checksums<'s> {
    /// Into `sums`: one for each op; those of ops beyond its end are dropped.
    pub fn new(sums: &'s mut [u32]) -> Self {
        Self { sums, seen: 0 }
    }

    /// The checksums of the last run, in the order of execution.
    pub fn sums(&self) -> &[u32] {
        &self.sums[..self.seen]
    }
}

impl Observer for Checksums<'_> {
    fn input(&mut self, _: Output) {
        self.seen = 0;
    }

    fn after(&mut self, op: &Op, output: Output) {
        if let Some(sum) = self.sums.get_mut(op.index) {
            *sum = crc32(output.bytes());
            self.seen = op.index + 1;
        }
    }
}

/// Index of the first op in which two runs of one image differ; a run that ends early differs there.
pub fn first_difference(a: &[u32], b: &[u32]) -> Option<usize> {
    let common = a.len().min(b.len());
    (0..common).find(|&i| a[i] != b[i]).or((a.len() != b.len()).then_some(common))
}
