//! What is told of each op while the network runs. Enters: the runtime's calls around each op. Leaves: words of the reply. Their
//! cost is the firmware's, not the network's: an inference is counted in a run without an observer.

use crate::host::{Host, Problem};
use crate::machine;
use runtime::exec::Output;
use runtime::image::{Op, crc32};
use runtime::observe::Observer;

/// Tells the CRC-32 of what each op wrote.
pub struct Sums<'h> {
    host: &'h mut Host,
    /// Whether the host took all of them.
    pub told: Result<(), Problem>,
}

impl<'h> Sums<'h> {
    /// To `host`.
    pub fn new(host: &'h mut Host) -> Self {
        Self { host, told: Ok(()) }
    }
}

impl Observer for Sums<'_> {
    fn after(&mut self, _: &Op, output: Output) {
        if self.told.is_ok() {
            self.told = self.host.write(&crc32(output.bytes()).to_le_bytes());
        }
    }
}

/// Tells the ticks of each op.
pub struct Ticks<'h> {
    host: &'h mut Host,
    /// Whether the host took all of them.
    pub told: Result<(), Problem>,
}

impl<'h> Ticks<'h> {
    /// To `host`.
    pub fn new(host: &'h mut Host) -> Self {
        Self { host, told: Ok(()) }
    }
}

impl Observer for Ticks<'_> {
    fn before(&mut self, _: &Op) {
        machine::start_clock();
    }

    fn after(&mut self, _: &Op, _: Output) {
        let ticks = machine::ticks();
        if self.told.is_ok() {
            self.told = self.host.write(&ticks.to_le_bytes());
        }
    }
}
