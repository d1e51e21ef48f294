//! The ten figures as signed distances. Enters: a class and random numbers. Leaves: for a point the distance to the
//! figure's edge, negative inside, both in units of the figure's radius. Refuses nothing.
//!
//! Only `+ - * / sqrt abs floor min max`, which IEEE 754 fixes to the last bit; sine and cosine differ between
//! platforms, so directions are drawn as points of a disc and the star's angles are constants.

use rand_chacha::ChaCha8Rng;

use crate::data::random::{below, uniform};

/// Class names; a label is an index into them.
pub const CLASSES: [&str; 10] =
    ["disc", "ring", "square", "triangle", "star", "cross", "crescent", "stripes", "checkers", "dots"];

/// A figure of radius 1 around the origin.
pub(super) struct Figure {
    class: usize,
    /// The outline of a texture: a square if true, otherwise a disc.
    square: bool,
    /// Of a texture.
    period: f32,
    /// Shift of a texture, in periods.
    phase: [f32; 2],
}

impl Figure {
    pub(super) fn random(class: usize, rng: &mut ChaCha8Rng) -> Self {
        Self {
            class,
            square: below(rng, 2) == 1,
            period: uniform(rng, 0.55, 0.8),
            phase: [uniform(rng, 0.0, 1.0), uniform(rng, 0.0, 1.0)],
        }
    }

    pub(super) fn distance(&self, [u, v]: [f32; 2]) -> f32 {
        let radius = length(u, v);
        let (far, near) = (u.abs().max(v.abs()), u.abs().min(v.abs()));
        let outline = if self.square { far - 0.85 } else { radius - 1.0 };
        match self.class {
            0 => radius - 0.9,
            1 => (radius - 0.72).abs() - 0.22,
            2 => far - 0.8,
            3 => (v - 0.55).max(0.866_025_4 * u.abs() - 0.5 * v - 0.55),
            4 => star(u, v),
            5 => (far - 1.0).max(near - 0.27),
            6 => (radius - 1.0).max(0.8 - length(u - 0.55, v)),
            7 => outline.max(self.stripes(u, 0)),
            8 => {
                // Inside where one of two stripe patterns is, but not both.
                let (a, b) = (self.stripes(u, 0), self.stripes(v, 1));
                outline.max(a.min(b).max(-a.max(b)))
            }
            _ => {
                let [a, b] = [self.cell(u, 0), self.cell(v, 1)];
                outline.max((length(a, b) - 0.31) * self.period)
            }
        }
    }

    /// Distance to stripes across one axis, half of each period wide.
    fn stripes(&self, x: f32, axis: usize) -> f32 {
        (self.cell(x, axis).abs() - 0.25) * self.period
    }

    /// Where in its period a coordinate lies, `-0.5..0.5`.
    fn cell(&self, x: f32, axis: usize) -> f32 {
        let t = x / self.period + self.phase[axis];
        t - t.floor() - 0.5
    }
}

/// Five points, the first at `(0, 1)`, with inner corners at radius 0.42.
fn star(u: f32, v: f32) -> f32 {
    const COS_36: f32 = 0.809_017;
    const SIN_36: f32 = 0.587_785_24;
    // Unit normal of the edge from the point (0, 1) to the inner corner 0.42 (sin 36, cos 36).
    const NORMAL: [f32; 2] = [0.936_656, 0.350_240];
    // Mirrors fold the plane onto the half of one point, where the star is a half-plane.
    let (mut u, mut v) = (u.abs(), v);
    for side in [COS_36, -COS_36] {
        let beyond = (side * u - SIN_36 * v).max(0.0);
        u -= 2.0 * beyond * side;
        v += 2.0 * beyond * SIN_36;
    }
    NORMAL[0] * u.abs() + NORMAL[1] * (v - 1.0)
}

fn length(u: f32, v: f32) -> f32 {
    (u * u + v * v).sqrt()
}
