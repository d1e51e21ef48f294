//! Convolution in floats. Enters: `C H W` and weights `K C/groups R S`. Leaves: `K H' W'`. A depthwise convolution is
//! summed tap by tap; any other one is a matrix product for each group, of the weights and of the image written out so
//! that each tap is a row ("im2col").

use std::borrow::Cow;
use std::ops::Range;

use crate::network::{Conv2d, Shape, Window};

use super::gemm;

/// What one group of a convolution reads, `C/groups R S, H' W'`; zero where a tap lies in the padding.
pub(crate) fn columns(conv: &Conv2d, input: Shape, output: Shape, x: &[f32], group: usize) -> Vec<f32> {
    let convolution = Convolution::new(conv, Cow::Borrowed(&conv.weight), input, output);
    let mut columns = vec![0.0; convolution.taps() * output.pixels()];
    let size = x.len() / conv.groups;
    convolution.write_out(&x[group * size..][..size], &mut columns);
    columns
}

pub(super) struct Convolution<'n> {
    weight: Cow<'n, [f32]>,
    bias: Option<&'n [f32]>,
    window: Window,
    groups: usize,
    input: Shape,
    output: Shape,
}

impl<'n> Convolution<'n> {
    pub(super) fn new(conv: &'n Conv2d, weight: Cow<'n, [f32]>, input: Shape, output: Shape) -> Self {
        Self { weight, bias: conv.bias.as_deref(), window: conv.window, groups: conv.groups, input, output }
    }

    /// Floats for the written-out image of one group.
    pub(super) fn scratch(&self) -> usize {
        if self.is_depthwise() || self.is_pointwise() { 0 } else { self.taps() * self.output.pixels() }
    }

    pub(super) fn run(&self, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        for (k, plane) in y.chunks_exact_mut(self.output.pixels()).enumerate() {
            plane.fill(self.bias.map_or(0.0, |bias| bias[k]));
        }
        if self.is_depthwise() {
            return self.depthwise(x, y);
        }
        let (pixels, taps) = (self.output.pixels(), self.taps());
        let group_x = x.len() / self.groups;
        let group_w = self.weight.len() / self.groups;
        for (group, y) in y.chunks_exact_mut(self.output.len() / self.groups).enumerate() {
            let x = &x[group * group_x..][..group_x];
            let weight = &self.weight[group * group_w..][..group_w];
            if self.is_pointwise() {
                gemm::accumulate(weight, x, y, [taps, pixels]);
            } else {
                let columns = &mut scratch[..taps * pixels];
                self.write_out(x, columns);
                gemm::accumulate(weight, columns, y, [taps, pixels]);
            }
        }
    }

    /// Products for each output: `C/groups R S`.
    fn taps(&self) -> usize {
        self.weight.len() / self.output.c
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.input.c
    }

    /// Whether the image, written out, would be the image.
    fn is_pointwise(&self) -> bool {
        self.window == Window { dilation: self.window.dilation, ..Window::square(1, 1, 0) }
    }

    /// Outputs along an axis (0 down, 1 right) whose tap number `tap` lies inside the image, and the position of that tap
    /// for the first of them.
    fn inside(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let (size, outputs) = if axis == 0 { (self.input.h, self.output.h) } else { (self.input.w, self.output.w) };
        let (stride, padding) = (self.window.stride[axis], self.window.padding[axis]);
        let offset = tap * self.window.dilation[axis];
        let start = padding.saturating_sub(offset).div_ceil(stride).min(outputs);
        let end = (size + padding).saturating_sub(offset).div_ceil(stride).clamp(start, outputs);
        (start..end, (start * stride + offset).saturating_sub(padding))
    }

    /// `C H W` to `C R S, H' W'`; zero where a tap lies in the padding.
    fn write_out(&self, x: &[f32], columns: &mut [f32]) {
        let [kernel_h, kernel_w] = self.window.kernel;
        let mut rows = columns.chunks_exact_mut(self.output.pixels());
        for plane in x.chunks_exact(self.input.pixels()) {
            for (r, s) in (0..kernel_h).flat_map(|r| (0..kernel_w).map(move |s| (r, s))) {
                let row = rows.next().expect("as many rows as taps");
                let (down, mut from_y) = self.inside(0, r);
                let (right, from_x) = self.inside(1, s);
                for (oy, to) in row.chunks_exact_mut(self.output.w).enumerate() {
                    if !down.contains(&oy) || right.is_empty() {
                        to.fill(0.0);
                        continue;
                    }
                    to[..right.start].fill(0.0);
                    to[right.end..].fill(0.0);
                    let from = &plane[from_y * self.input.w + from_x..];
                    let to = &mut to[right.clone()];
                    match self.window.stride[1] {
                        1 => to.copy_from_slice(&from[..to.len()]),
                        stride => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
                    }
                    from_y += self.window.stride[0];
                }
            }
        }
    }

    fn depthwise(&self, x: &[f32], y: &mut [f32]) {
        let [kernel_h, kernel_w] = self.window.kernel;
        let multiplier = self.output.c / self.input.c;
        for (k, y) in y.chunks_exact_mut(self.output.pixels()).enumerate() {
            let plane = &x[k / multiplier * self.input.pixels()..][..self.input.pixels()];
            let weight = &self.weight[k * self.taps()..][..self.taps()];
            for (r, s) in (0..kernel_h).flat_map(|r| (0..kernel_w).map(move |s| (r, s))) {
                let w = weight[r * kernel_w + s];
                let (down, from_y) = self.inside(0, r);
                let (right, from_x) = self.inside(1, s);
                if right.is_empty() {
                    continue;
                }
                for (i, oy) in down.enumerate() {
                    let from = &plane[(from_y + i * self.window.stride[0]) * self.input.w + from_x..];
                    let to = &mut y[oy * self.output.w..][right.clone()];
                    match self.window.stride[1] {
                        1 => to.iter_mut().zip(from).for_each(|(to, from)| *to += w * from),
                        stride => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to += w * from),
                    }
                }
            }
        }
    }
}
