//! Tests of this folder.

mod distribution;
mod files;
mod golden;
mod network;
mod properties;

use super::*;

/// Net A of the golden numbers: strided stem, BatchNorm, a hidden layer.
fn net_a() -> Architecture {
    Architecture {
        cells: 4,
        width: 32,
        widening: 2,
        normal: vec![Step::new((CellOp::Separable3, 0), (CellOp::Convolution5, 1))],
        reduction: vec![Step::new((CellOp::MaxPool, 0), (CellOp::Skip, 1))],
        concat: vec![true],
        stem: Stem::Strided,
        stem_kernel: 3,
        batch_norm: true,
        global_average: true,
        hidden: Some(64),
    }
}

/// Net B: simple stem with pooling, no BatchNorm, absent branches.
fn net_b() -> Architecture {
    Architecture {
        normal: vec![
            Step::new((CellOp::Separable3, 0), (CellOp::Dilated5, 1)),
            Step::new((CellOp::None, 1), (CellOp::Convolution1, 2)),
        ],
        reduction: vec![
            Step::new((CellOp::MaxPool, 0), (CellOp::Skip, 1)),
            Step::new((CellOp::AveragePool, 2), (CellOp::None, 0)),
        ],
        concat: vec![true, true],
        stem: Stem::Simple { pool: true },
        batch_norm: false,
        hidden: None,
        ..net_a()
    }
}

/// A net whose cells concatenate a state that no branch reaches, read by convolutions and by a flattened head.
fn net_with_zeros() -> Architecture {
    let dead = Step::new((CellOp::None, 0), (CellOp::None, 1));
    Architecture {
        width: 8,
        normal: vec![Step::new((CellOp::Skip, 0), (CellOp::Convolution3, 1)), dead],
        reduction: vec![dead, Step::new((CellOp::Skip, 0), (CellOp::Dilated3, 1))],
        concat: vec![true, true],
        stem: Stem::Simple { pool: false },
        global_average: false,
        hidden: Some(16),
        ..net_a()
    }
}

fn build(architecture: &Architecture) -> Blueprint {
    Blueprint::build(architecture, Task::CIFAR10).unwrap()
}

/// The first networks of a split, seed 1.
fn nets(space: Space, split: Split, count: usize) -> Vec<Architecture> {
    let sampler = Sampler::new(Request::new(space, split, 1)).unwrap();
    let (set, _) = sampler.generate(count, &|_| {}).unwrap();
    set.iter().collect()
}
