//! First values of weights. Enters: a scheme, the extents of a layer, a generator. Leaves: weights. Nothing is refused.
//! The schemes are those that the paper's study of random initialization compares (Eq. 7 and 8).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// A distribution of first weights. `fan_in` counts the inputs of one output, `fan_out` the outputs of one input; both
/// include the taps of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// Normal, variance `2 / fan_in`.
    HeNormal,
    /// Uniform, variance `2 / fan_in`.
    HeUniform,
    /// Normal, variance `2 / (fan_in + fan_out)`.
    GlorotNormal,
    /// Uniform in `+-sqrt(c / (fan_in + fan_out))`; 6 is Glorot's own, 36 and 1296 the paper's medium and large.
    GlorotUniform {
        /// `C` of Eq. 8; positive.
        c: f32,
    },
    /// Normal with a standard deviation that knows nothing of the layer.
    Normal {
        /// Standard deviation; positive.
        deviation: f32,
    },
    /// Uniform in `+-limit`, whatever the layer.
    Uniform {
        /// Largest magnitude; positive.
        limit: f32,
    },
}

impl Init {
    /// `count` weights of a layer with these fans.
    pub fn draw(self, count: usize, fan_in: usize, fan_out: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let (fan_in, both) = (fan_in as f32, (fan_in + fan_out) as f32);
        let normal = |rng: &mut ChaCha8Rng, deviation: f32| (0..count).map(|_| deviation * normal(rng)).collect();
        let uniform = |rng: &mut ChaCha8Rng, limit: f32| (0..count).map(|_| limit * (2.0 * unit(rng) - 1.0)).collect();
        match self {
            Self::HeNormal => normal(rng, (2.0 / fan_in).sqrt()),
            Self::HeUniform => uniform(rng, (6.0 / fan_in).sqrt()),
            Self::GlorotNormal => normal(rng, (2.0 / both).sqrt()),
            Self::GlorotUniform { c } => uniform(rng, (c / both).sqrt()),
            Self::Normal { deviation } => normal(rng, deviation),
            Self::Uniform { limit } => uniform(rng, limit),
        }
    }
}

/// Uniform in `[0, 1)`, 24 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Standard normal, by Box and Muller, in f64.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    // Away from 0, where the logarithm ends.
    let u = (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0;
    let v = f64::from(rng.next_u32()) / 4_294_967_296.0;
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
