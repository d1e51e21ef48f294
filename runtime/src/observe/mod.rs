//! Watching a run without changing it. Enters: every op, before and after it runs, with what it wrote. Leaves: whatever
//! the observer makes of that, in memory of its owner.

mod checksums;
mod tap;
#[cfg(feature = "std")]
mod timing;

pub use checksums::{Checksums, first_difference};
pub use tap::Tap;
#[cfg(feature = "std")]
pub use timing::Timing;

use crate::{exec::Output, image::Op};

/// Called at each step of a run. Everything is optional.
pub trait Observer {
    /// Whether it looks at what ops do. One that does not is still called, but threads that share a run do not stop at each op for it.
    fn watches(&self) -> bool {
        true
    }

    /// The input tensor is filled; a run begins.
    fn input(&mut self, input: Output) {
        let _ = input;
    }

    /// `op` is about to run.
    fn before(&mut self, op: &Op) {
        let _ = op;
    }

    /// `op` has run and written `output`.
    fn after(&mut self, op: &Op, output: Output) {
        let _ = (op, output);
    }
}

/// Watches nothing.
impl Observer for () {
    fn watches(&self) -> bool {
        false
    }
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn watches(&self) -> bool {
        (**self).watches()
    }

    fn input(&mut self, input: Output) {
        (**self).input(input);
    }

    fn before(&mut self, op: &Op) {
        (**self).before(op);
    }

    fn after(&mut self, op: &Op, output: Output) {
        (**self).after(op, output);
    }
}

/// Both watch, the first one first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn watches(&self) -> bool {
        self.0.watches() || self.1.watches()
    }

    fn input(&mut self, input: Output) {
        self.0.input(input);
        self.1.input(input);
    }

    fn before(&mut self, op: &Op) {
        self.0.before(op);
        self.1.before(op);
    }

    fn after(&mut self, op: &Op, output: Output) {
        self.0.after(op, output);
        self.1.after(op, output);
    }
}
