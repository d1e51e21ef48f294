//! One picture of `shapes10`. Enters: its class and its random stream. Leaves: 32x32 RGB bytes. Refuses nothing.
//!
//! A scene is a background with a gradient, up to two strokes of clutter, the figure (any place, angle, size and
//! stretch) in a colour of its own, at most one thin stroke in front, and noise. Figure and background are two colours
//! drawn alike, so that either may be the lighter one and no colour says anything about the class.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::SIDE;
use super::figure::Figure;
use crate::data::random::{below, uniform};

type Colour = [f32; 3];

/// Least difference in brightness between figure and background, of 255.
const CONTRAST: f32 = 60.0;

/// Draws one picture, `32 32 3`.
pub(super) fn draw(class: usize, rng: &mut ChaCha8Rng, pixels: &mut [u8]) {
    let (ground, ink) = colours(rng);
    let gradient = [direction(rng), direction(rng), direction(rng)].map(|[x, y]| [x * 1.5, y * 1.5]);
    let pose = Pose::random(rng);
    let figure = Figure::random(class, rng);
    let behind: Vec<Stroke> = (0..below(rng, 3)).map(|_| Stroke::random(rng, 1.3)).collect();
    let in_front: Vec<Stroke> = (0..below(rng, 2)).map(|_| Stroke::random(rng, 0.6)).collect();
    let noise = uniform(rng, 2.0, 12.0);

    for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((i % SIDE) as f32 + 0.5, (i / SIDE) as f32 + 0.5);
        let from_centre = [x - SIDE as f32 / 2.0, y - SIDE as f32 / 2.0];
        let mut colour: Colour =
            std::array::from_fn(|c| ground[c] + gradient[c][0] * from_centre[0] + gradient[c][1] * from_centre[1]);
        for stroke in &behind {
            blend(&mut colour, stroke.colour, cover(stroke.distance(x, y)));
        }
        blend(&mut colour, ink, cover(figure.distance(pose.local(x, y)) * pose.radius));
        for stroke in &in_front {
            blend(&mut colour, stroke.colour, cover(stroke.distance(x, y)));
        }
        for (byte, value) in pixel.iter_mut().zip(colour) {
            *byte = (value + noise * bell(rng) + 0.5).floor().clamp(0.0, 255.0) as u8;
        }
    }
}

/// Two colours far enough apart in brightness.
fn colours(rng: &mut ChaCha8Rng) -> (Colour, Colour) {
    let brightness = |[r, g, b]: Colour| 0.299 * r + 0.587 * g + 0.114 * b;
    loop {
        let (a, b) = (colour(rng), colour(rng));
        if (brightness(a) - brightness(b)).abs() >= CONTRAST {
            return (a, b);
        }
    }
}

fn colour(rng: &mut ChaCha8Rng) -> Colour {
    std::array::from_fn(|_| uniform(rng, 15.0, 240.0))
}

fn blend(colour: &mut Colour, other: Colour, share: f32) {
    for (c, o) in colour.iter_mut().zip(other) {
        *c += (o - *c) * share;
    }
}

/// How much of a pixel lies inside an edge at this distance in pixels, negative inside.
fn cover(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

/// Uniform direction, of length 1.
fn direction(rng: &mut ChaCha8Rng) -> [f32; 2] {
    loop {
        let [x, y] = [uniform(rng, -1.0, 1.0), uniform(rng, -1.0, 1.0)];
        let square = x * x + y * y;
        if (0.01..=1.0).contains(&square) {
            let length = square.sqrt();
            return [x / length, y / length];
        }
    }
}

/// Near to normal, mean 0, deviation 1: the sum of four bytes.
fn bell(rng: &mut ChaCha8Rng) -> f32 {
    // Four uniform bytes have mean 4 * 127.5 and variance 4 * (256^2 - 1) / 12.
    let sum: u32 = rng.next_u32().to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) / 147.800_7
}

/// Where and how the figure lies.
struct Pose {
    centre: [f32; 2],
    /// In pixels.
    radius: f32,
    direction: [f32; 2],
    stretch: f32,
}

impl Pose {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let radius = uniform(rng, 9.0, 13.0);
        let margin = 0.9 * radius;
        let mut place = || uniform(rng, margin, SIDE as f32 - margin);
        let centre = [place(), place()];
        Self { centre, radius, direction: direction(rng), stretch: uniform(rng, 0.87, 1.15) }
    }

    /// From pixels to the figure's own coordinates.
    fn local(&self, x: f32, y: f32) -> [f32; 2] {
        let [dx, dy] = [(x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius];
        let [cos, sin] = self.direction;
        [(cos * dx + sin * dy) * self.stretch, (cos * dy - sin * dx) / self.stretch]
    }
}

/// A straight stroke with round ends.
struct Stroke {
    from: [f32; 2],
    along: [f32; 2],
    half_width: f32,
    colour: Colour,
}

impl Stroke {
    fn random(rng: &mut ChaCha8Rng, widest: f32) -> Self {
        let side = SIDE as f32;
        let mut place = || [uniform(rng, 0.0, side), uniform(rng, 0.0, side)];
        let (from, to) = (place(), place());
        let along = [to[0] - from[0], to[1] - from[1]];
        Self { from, along, half_width: uniform(rng, 0.4, widest), colour: colour(rng) }
    }

    fn distance(&self, x: f32, y: f32) -> f32 {
        let [dx, dy] = [x - self.from[0], y - self.from[1]];
        let [ax, ay] = self.along;
        // The denominator is kept from 0 for a stroke that is a point.
        let t = ((dx * ax + dy * ay) / (ax * ax + ay * ay).max(1e-6)).clamp(0.0, 1.0);
        let [ox, oy] = [dx - t * ax, dy - t * ay];
        (ox * ox + oy * oy).sqrt() - self.half_width
    }
}
