//! The plain meaning: element by element.

use super::{Add, Cell};
use crate::arith::widen;

pub(super) fn run(add: &Add, [a, b]: [&[Cell<u8>]; 2], y: &[Cell<u8>]) {
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        y.set(add.rescale.apply(widen(a.get(), add.signed[0]), widen(b.get(), add.signed[1])) as u8);
    }
}
