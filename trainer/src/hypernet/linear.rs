//! Linear layers on rows. Enters: rows of features, `out x in` weights. Leaves: rows, or gradients that are added to what is
//! there. Lengths are the caller's to keep.

use crate::ops::kernels::gemm::{Matrix, gemm};

/// A row-major matrix.
fn rows(data: &[f32], columns: usize) -> Matrix<'_> {
    Matrix { data, row: columns, column: 1 }
}

/// The transpose of a row-major matrix.
fn columns(data: &[f32], columns: usize) -> Matrix<'_> {
    Matrix { data, row: 1, column: columns }
}

/// `y = x w^T + b`.
pub(super) fn forward_into(x: &[f32], w: &[f32], b: &[f32], y: &mut [f32]) {
    let outputs = b.len();
    let inputs = w.len() / outputs;
    y.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(b));
    gemm([x.len() / inputs, outputs, inputs], y, outputs, true, rows(x, inputs), columns(w, inputs));
}

/// `x w^T + b`.
pub(super) fn forward(x: &[f32], w: &[f32], b: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / (w.len() / b.len()) * b.len()];
    forward_into(x, w, b, &mut y);
    y
}

/// `dx += dy w`.
pub(super) fn input_gradient(dy: &[f32], w: &[f32], outputs: usize, dx: &mut [f32]) {
    let inputs = w.len() / outputs;
    gemm([dy.len() / outputs, inputs, outputs], dx, inputs, true, rows(dy, outputs), rows(w, inputs));
}

/// `dw += dy^T x` and `db += sum of dy`.
pub(super) fn parameter_gradient(x: &[f32], dy: &[f32], [dw, db]: [&mut [f32]; 2]) {
    let outputs = db.len();
    let inputs = dw.len() / outputs;
    if x.is_empty() {
        return;
    }
    gemm([outputs, inputs, x.len() / inputs], dw, inputs, true, columns(dy, outputs), rows(x, inputs));
    for row in dy.chunks_exact(outputs) {
        for (db, dy) in db.iter_mut().zip(row) {
            *db += dy;
        }
    }
}

/// `max(x, 0)` in place.
pub(super) fn relu(x: &mut [f32]) {
    x.iter_mut().for_each(|v| *v = v.max(0.0));
}

/// Clears the gradient where a ReLU's result `y` is 0.
pub(super) fn relu_gradient(y: &[f32], dy: &mut [f32]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        if *y <= 0.0 {
            *dy = 0.0;
        }
    }
}
