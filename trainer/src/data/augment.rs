//! Random changes that keep the label. Enters: one image, `H W C` bytes, and a generator that belongs to it. Leaves: an
//! image of the same size. Nothing is refused.
//!
//! Geometry is one map from output to input pixels, sampled bilinearly once, so that combined changes blur no more than
//! one. Outside the image lies black for pad-and-crop (as usual on CIFAR-10), the nearest edge pixel otherwise.

use crate::nets::unit;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which changes, and how large they may become.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augment {
    /// Pixels of black that are put around the image before a part of its own size is cut out; 0 for none.
    pub pad: usize,
    /// Mirror left and right, half of the time.
    pub flip: bool,
    /// Largest shift, as a share of height and width; 0 for none.
    pub shift: f32,
    /// Largest zoom in or out, as a share of the size; 0 for none, below 1.
    pub zoom: f32,
    /// Largest rotation in degrees, either way; 0 for none.
    pub rotation: f32,
}

impl Augment {
    /// The image as it is.
    pub const NONE: Self = Self { pad: 0, flip: false, shift: 0.0, zoom: 0.0, rotation: 0.0 };
    /// Four pixels of padding, and mirroring: usual for CIFAR-10.
    pub const CROP_FLIP: Self = Self { pad: 4, flip: true, ..Self::NONE };
    /// Shift, zoom and rotation, as in the paper.
    pub const PAPER: Self = Self { shift: 0.1, zoom: 0.1, rotation: 10.0, flip: true, ..Self::NONE };

    /// Changes `image` (`h w c` bytes) into `out`. The generator is read equally often whatever is switched on.
    pub fn apply(&self, image: &[u8], [h, w, c]: [usize; 3], rng: &mut ChaCha8Rng, out: &mut [u8]) {
        let [flip, crop_y, crop_x, shift_y, shift_x, zoom, rotation] = [(); 7].map(|()| unit(rng));
        let signed = |u: f32| 2.0 * u - 1.0;
        let flip = self.flip && flip < 0.5;
        let offset = |u: f32| (u * (2 * self.pad + 1) as f32) as isize - self.pad as isize;
        let (crop_y, crop_x) = (offset(crop_y), offset(crop_x));
        if self.shift == 0.0 && self.zoom == 0.0 && self.rotation == 0.0 {
            crop(image, [h, w, c], flip, [crop_y, crop_x], out);
            return;
        }
        let (sin, cos) = (signed(rotation) * self.rotation).to_radians().sin_cos();
        let map = Map {
            flip,
            centre: [(h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0],
            shift: [
                signed(shift_y) * self.shift * h as f32 + crop_y as f32,
                signed(shift_x) * self.shift * w as f32 + crop_x as f32,
            ],
            turn: [sin, cos].map(|v| v / (1.0 + signed(zoom) * self.zoom)),
        };
        for y in 0..h {
            for x in 0..w {
                let at = map.source([y, x]);
                sample(image, [h, w, c], at, &mut out[(y * w + x) * c..][..c]);
            }
        }
    }
}

/// Moves by whole pixels.
fn crop(image: &[u8], [h, w, c]: [usize; 3], flip: bool, [dy, dx]: [isize; 2], out: &mut [u8]) {
    for y in 0..h {
        let from = y.wrapping_add_signed(dy);
        for x in 0..w {
            let source = if flip { w - 1 - x } else { x }.wrapping_add_signed(dx);
            let out = &mut out[(y * w + x) * c..][..c];
            if from < h && source < w {
                out.copy_from_slice(&image[(from * w + source) * c..][..c]);
            } else {
                out.fill(0);
            }
        }
    }
}

/// Where an output pixel comes from.
struct Map {
    flip: bool,
    centre: [f32; 2],
    shift: [f32; 2],
    /// Sine and cosine, divided by the zoom.
    turn: [f32; 2],
}

impl Map {
    fn source(&self, [y, x]: [usize; 2]) -> [f32; 2] {
        let ([cy, cx], [sin, cos]) = (self.centre, self.turn);
        let (y, x) = (y as f32 - cy, x as f32 - cx);
        let x = if self.flip { -x } else { x };
        [cy + self.shift[0] + cos * y + sin * x, cx + self.shift[1] + cos * x - sin * y]
    }
}

/// The pixel at a place between pixels.
fn sample(image: &[u8], [h, w, c]: [usize; 3], [y, x]: [f32; 2], out: &mut [u8]) {
    let split = |v: f32, size: usize| {
        let v = v.clamp(0.0, (size - 1) as f32);
        (v as usize, (v as usize + 1).min(size - 1), v.fract())
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (split(y, h), split(x, w));
    for (channel, out) in out.iter_mut().enumerate() {
        let at = |y: usize, x: usize| f32::from(image[(y * w + x) * c + channel]);
        let top = at(y0, x0) + (at(y0, x1) - at(y0, x0)) * fx;
        let bottom = at(y1, x0) + (at(y1, x1) - at(y1, x0)) * fx;
        *out = (top + (bottom - top) * fy).round() as u8;
    }
}
