//! An op with a window may write its output over its own input, a strip of rows at a time, if the output lies far enough below:
//! rows of the input that later rows of the output still need must not be reached. Enters: the window, both tensors. Leaves:
//! how far that is, and which rows make a strip. Refuses nothing.

use super::Window;
use crate::image::repr::{TensorRepr, WindowRepr};

/// Bytes by which the output of an op with that window must lie below its input at least, when strips of at least `pixels`
/// output pixels (at least one) are computed before they are written. An output so far below may overlap the input.
pub fn lead(window: &WindowRepr, x: &TensorRepr, y: &TensorRepr, pixels: u32) -> u64 {
    let shapes = [x, y].map(|tensor| tensor.shape.map(usize::from));
    let [[height, width, c], [out_height, out_width, k]] =
        lines(&Window::from(*window), shapes).map(|shape| shape.map(|extent| extent as i64));
    let [row_in, row_out] = [width * c, out_width * k];
    let (stride, padding) = (i64::from(window.stride[0].max(1)), i64::from(window.padding[0]));
    let rows = (i64::from(pixels.max(1)) + out_width - 1) / out_width;
    let behind = |oy: i64| {
        let oy = oy.clamp(0, out_height - 1);
        let first = (oy * stride - padding).clamp(0, height);
        (oy + rows).min(out_height) * row_out - first * row_in
    };
    // Between these rows it is convex, so that it is greatest at one of them.
    let last_at_top = padding / stride;
    let most = [last_at_top, last_at_top + 1, out_height - rows, out_height - 1].map(behind);
    most.into_iter().fold(0, i64::max) as u64
}

/// The shapes (`H W C`) in which an op with that window may see its input and output: when every output pixel is made of the
/// input pixel of the same place, columns of pixels, so that strips may begin and end anywhere.
pub(crate) fn lines(window: &Window, shapes: [[usize; 3]; 2]) -> [[usize; 3]; 2] {
    let point = window.kernel == [1; 2] && window.stride == [1; 2] && window.padding == [0; 2];
    // There may be padding below or on the right, which a window does not show.
    if point && shapes[0][..2] == shapes[1][..2] { shapes.map(|[h, w, c]| [h * w, 1, c]) } else { shapes }
}

/// Rows of the output, and the rows of the input that they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strip {
    /// First row of the output.
    pub(crate) out_start: usize,
    /// Behind its last row.
    pub(crate) out_end: usize,
    /// First row of the input.
    pub(crate) start: usize,
    /// Behind its last row.
    pub(crate) end: usize,
}

impl Strip {
    /// From row `out_start` of the output on, as many rows as can be written without touching what the strip reads or what
    /// comes after it needs; `room` are the bytes from the start of the output to that of the input, at least [`lead`], and
    /// `rows` are bytes of a row of the input and of the output.
    pub(crate) fn new(window: &Window, out_start: usize, heights: [usize; 2], rows: [usize; 2], room: usize) -> Self {
        let [height, out_height] = heights;
        let start = (out_start * window.stride[0]).saturating_sub(window.padding[0]).min(height);
        let free = (room + start * rows[0]) / rows[1];
        let out_end = free.clamp(out_start + 1, out_height);
        let last = (out_end - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
        Self { out_start, out_end, start, end: last.saturating_sub(window.padding[0]).clamp(start, height) }
    }

    /// The window, for an input that begins with the strip.
    pub(crate) fn window(&self, window: &Window) -> Window {
        let above = window.padding[0].saturating_sub(self.out_start * window.stride[0]);
        Window { padding: [above, window.padding[1]], ..*window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::repr::Span;

    fn tensor(shape: [u16; 3]) -> TensorRepr {
        let bytes = shape.map(u32::from).iter().product();
        TensorRepr { offset: 0, bytes, shape, bits: 8, signed: true, scale: 1.0, zero_point: 0, name: Span::default() }
    }

    /// All small windows: the closed form is what comes out row by row, and strips keep to it.
    #[test]
    fn no_strip_writes_what_is_still_read() {
        for height in 1..8u16 {
            for (kernel, stride, padding, dilation, channels, rows) in (1..4u16).flat_map(|kernel| {
                (1..4u16).flat_map(move |stride| {
                    (0..5u16).flat_map(move |padding| {
                        (1..3u16).flat_map(move |dilation| {
                            (1..6u16).flat_map(move |channels| {
                                (1..4u16).map(move |rows| (kernel, stride, padding, dilation, channels, rows))
                            })
                        })
                    })
                })
            }) {
                let reach = dilation * (kernel - 1) + 1;
                let Some(room) = (height + 2 * padding).checked_sub(reach) else { continue };
                let repr = WindowRepr {
                    kernel: [kernel; 2],
                    stride: [stride; 2],
                    padding: [padding; 4],
                    dilation: [dilation; 2],
                };
                let (x, y) = (tensor([height, 2, 3]), tensor([room / stride + 1, 2, channels]));
                let what = format!("{repr:?} {x:?} {y:?} {rows}");
                let window = Window::from(repr);
                let point = if kernel == 1 && stride == 1 && padding == 0 { 2 } else { 1 };
                let [row_in, row_out] = [6 / point, 2 * usize::from(channels) / point];
                let [height, out_height] = [height, y.shape[0]].map(|height| point * usize::from(height));
                let pixels = rows * 2 / point as u16;
                let first = |oy: usize| (oy * window.stride[0]).saturating_sub(window.padding[0]).min(height);
                let by_row = (0..out_height)
                    .map(|oy| ((oy + usize::from(rows)).min(out_height) * row_out).saturating_sub(first(oy) * row_in));
                let lead = lead(&repr, &x, &y, pixels.into()) as usize;
                assert_eq!(Some(lead), by_row.max(), "{what}");
                let mut oy = 0;
                while oy < out_height {
                    let strip = Strip::new(&window, oy, [height, out_height], [row_in, row_out], lead);
                    let rows = usize::from(rows).min(out_height - oy);
                    assert!(strip.out_end >= oy + rows, "{what} {strip:?}");
                    assert!(strip.out_end * row_out <= lead + strip.start * row_in, "{what} {strip:?}");
                    for row in oy..strip.out_end {
                        let sub = strip.window(&window);
                        let whole = window.taps(0, row, height);
                        assert_eq!(sub.taps(0, row - oy, strip.end - strip.start), whole, "{what} {strip:?}");
                        for tap in whole {
                            let at = window.position(0, row, tap, height).unwrap();
                            let found = sub.position(0, row - oy, tap, strip.end - strip.start);
                            assert_eq!(found, Some(at - strip.start), "{what} {strip:?}");
                        }
                    }
                    oy = strip.out_end;
                }
            }
        }
    }
}
