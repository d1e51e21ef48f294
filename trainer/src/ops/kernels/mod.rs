//! The kernels behind [`super`] for the CPU, on plain slices: what the work costs is decided here. Enters: contiguous
//! `f32`. Leaves: new vectors. Every function gives the same bits on any number of threads.

pub(crate) mod conv;
pub(crate) mod depthwise;
pub(crate) mod gemm;
mod lines;
pub(crate) mod norm;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod pool3;
pub(crate) mod quantile;
mod shifted;
mod simd;

/// Adds up equally long vectors in order.
fn sum(partial: Vec<Vec<f32>>) -> Vec<f32> {
    let mut partial = partial.into_iter();
    let mut total = partial.next().unwrap_or_default();
    for part in partial {
        for (t, p) in total.iter_mut().zip(part) {
            *t += p;
        }
    }
    total
}
