//! Where a window lies in the image. Enters: a window record and a position of the output. Leaves: input positions.

use crate::image::repr::WindowRepr;
use core::ops::Range;

/// Kernel, stride, padding and dilation of a convolution or pool; index 0 is down, 1 is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `R S`.
    pub kernel: [usize; 2],
    /// Pixels between two positions.
    pub stride: [usize; 2],
    /// Rows above and columns left of the image.
    pub padding: [usize; 2],
    /// Pixels between two taps.
    pub dilation: [usize; 2],
}

impl From<WindowRepr> for Window {
    fn from(repr: WindowRepr) -> Self {
        let [top, left, ..] = repr.padding;
        Self {
            kernel: repr.kernel.map(usize::from),
            stride: repr.stride.map(usize::from),
            padding: [usize::from(top), usize::from(left)],
            dilation: repr.dilation.map(usize::from),
        }
    }
}

impl Window {
    /// One pixel at a time.
    #[cfg(any(test, feature = "std"))]
    pub(crate) const POINT: Self = Self { kernel: [1; 2], stride: [1; 2], padding: [0; 2], dilation: [1; 2] };

    /// Along `axis`: the input position under tap `tap` of the window at output position `out`, if it is inside an image
    /// of that size.
    #[inline]
    pub fn position(&self, axis: usize, out: usize, tap: usize, size: usize) -> Option<usize> {
        let padded = out * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(self.padding[axis]).filter(|&position| position < size)
    }

    /// Along `axis`: the taps of the window at output position `out` that are inside an image of that size.
    #[inline]
    pub fn taps(&self, axis: usize, out: usize, size: usize) -> Range<usize> {
        let (start, dilation) = (out * self.stride[axis], self.dilation[axis]);
        let first = self.padding[axis].saturating_sub(start).div_ceil(dilation);
        let end = (size + self.padding[axis]).saturating_sub(start).div_ceil(dilation);
        first.min(self.kernel[axis])..end.min(self.kernel[axis])
    }

    /// Along `axis`: the output positions, of `out` there are, whose window lies inside an image of that size.
    #[cfg_attr(
        not(any(intact_cortex_m, test, feature = "testing")),
        expect(dead_code, reason = "for cores of a Cortex-M")
    )]
    pub(crate) fn inside(&self, axis: usize, size: usize, out: usize) -> Range<usize> {
        let reach = self.dilation[axis] * (self.kernel[axis] - 1);
        let end = (size + self.padding[axis]).checked_sub(reach).map_or(0, |room| room.div_ceil(self.stride[axis]));
        let start = self.padding[axis].div_ceil(self.stride[axis]).min(out);
        start..end.clamp(start, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ways_to_say_which_taps_are_inside_agree() {
        for size in 1..7 {
            for kernel in 1..5 {
                for (stride, dilation, padding) in
                    (1..4).flat_map(|s| (1..4).flat_map(move |d| (0..9).map(move |p| (s, d, p))))
                {
                    let window = Window {
                        kernel: [kernel; 2],
                        stride: [stride; 2],
                        padding: [padding; 2],
                        dilation: [dilation; 2],
                    };
                    for out in 0..8 {
                        let by_one: Vec<usize> =
                            (0..kernel).filter(|&tap| window.position(0, out, tap, size).is_some()).collect();
                        assert_eq!(window.taps(0, out, size).collect::<Vec<_>>(), by_one, "{window:?} {out} {size}");
                        let all = by_one.len() == kernel;
                        assert_eq!(window.inside(0, size, 8).contains(&out), all, "{window:?} {out} {size}");
                    }
                }
            }
        }
    }
}
