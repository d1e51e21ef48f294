//! Pooling in floats. Enters: `C H W` and a window. Leaves: `C H' W'`. Padding never counts: neither as a maximum nor in
//! the number of taps of a mean.

use crate::network::{Shape, Window};

/// Largest value under the window.
pub(super) fn maximum(window: &Window, x: &[f32], shape: Shape, y: &mut [f32]) {
    slide(window, x, shape, y, |taps| taps.fold(f32::NEG_INFINITY, f32::max));
}

/// Mean of the taps inside the image.
pub(super) fn mean(window: &Window, x: &[f32], shape: Shape, y: &mut [f32]) {
    slide(window, x, shape, y, |taps| {
        let (sum, count) = taps.fold((0.0, 0u32), |(sum, count), x| (sum + x, count + 1));
        sum / count as f32
    });
}

/// Mean over each channel.
pub(super) fn global_mean(x: &[f32], shape: Shape, y: &mut [f32]) {
    for (y, plane) in y.iter_mut().zip(x.chunks_exact(shape.pixels())) {
        *y = plane.iter().sum::<f32>() / shape.pixels() as f32;
    }
}

/// Calls `reduce` with the taps inside the image, for every output. `Op::output_shape` has made sure that there is one:
/// padding is smaller than the kernel.
fn slide(
    window: &Window,
    x: &[f32],
    shape: Shape,
    y: &mut [f32],
    reduce: impl Fn(&mut dyn Iterator<Item = f32>) -> f32,
) {
    let [out_h, out_w] = window.output(shape.h, shape.w).expect("checked: the window fits");
    let inside = |out: usize, axis: usize, size: usize| {
        let start = out * window.stride[axis];
        let end = (start + window.kernel[axis]).saturating_sub(window.padding[axis]);
        start.saturating_sub(window.padding[axis])..end.min(size)
    };
    for (to, from) in y.chunks_exact_mut(out_h * out_w).zip(x.chunks_exact(shape.pixels())) {
        for (oy, row) in to.chunks_exact_mut(out_w).enumerate() {
            let rows = inside(oy, 0, shape.h);
            for (ox, y) in row.iter_mut().enumerate() {
                let columns = inside(ox, 1, shape.w);
                let mut taps = rows.clone().flat_map(|r| &from[r * shape.w..][columns.clone()]).copied();
                *y = reduce(&mut taps);
            }
        }
    }
}
