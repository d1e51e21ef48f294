//! Tests of this folder.

mod golden;

use super::*;

/// Net A of the golden numbers: strided stem, BatchNorm, a hidden layer.
pub(super) fn net_a() -> Architecture {
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
pub(super) fn net_b() -> Architecture {
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
