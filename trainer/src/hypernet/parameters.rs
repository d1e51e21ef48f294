//! The hypernetwork's own parameters. Enters: its form ([`Config`]) and a seed. Leaves: one flat vector with named tensors in
//! it, in the order of the reference implementation. Refused: forms that no network could be predicted with.

use super::norm_free::NormFree;
use crate::graph::{CHANNEL_ROWS, KERNEL_ROWS, Primitive};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Width of node states.
pub const HIDDEN: usize = 32;
/// Width of a shape embedding: four of them side by side make a state.
pub(super) const PART: usize = HIDDEN / 4;
/// Hidden features of the message networks.
pub(super) const MESSAGE: usize = HIDDEN / 2;
/// Channels behind the first and the second layer of the weight decoder.
pub(super) const DECODER: [usize; 2] = [4 * HIDDEN, 8 * HIDDEN];
/// Output and input channels that are predicted; wider tensors repeat them.
pub const CHANNELS: usize = 2 * HIDDEN;
/// Rows of the bit-width embeddings: floats, then 2 to 8 bits.
pub(super) const BIT_ROWS: usize = 8;

/// The form of a hypernetwork: GHN-2 for `3 x N x N` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Height and width of the largest kernel it predicts; GHN-2 has 11, and 7 computes the same for kernels up to 7.
    pub kernel: usize,
    /// Classes of the networks it predicts.
    pub classes: usize,
    /// Whether node states begin with the bit widths that the network will run at.
    pub bit_widths: bool,
    /// What is done to the weights of networks without BatchNorm.
    #[serde(default, skip_serializing_if = "NormFree::is_plain")]
    pub norm_free: NormFree,
}

impl Config {
    /// GHN-2 with the kernels of our design spaces.
    pub const fn ghn2(classes: usize) -> Self {
        Self { kernel: 7, classes, bit_widths: false, norm_free: NormFree { standardized: false, scaled_sums: false } }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self { kernel, .. } if kernel % 2 == 0 || !(1..=11).contains(kernel) => {
                Err(format!("largest kernel: found {kernel}, expected an odd number up to 11"))
            }
            Self { classes, .. } if !(1..=1000).contains(classes) => {
                Err(format!("classes: found {classes}, expected 1 to 1000"))
            }
            _ => Ok(()),
        }
    }

    /// Name and shape (rows, columns; columns 0 for a vector) of every tensor, in order.
    fn tensors(&self) -> Vec<(&'static str, [usize; 2])> {
        let (k, classes) = (self.kernel * self.kernel, self.classes);
        let [d1, d2] = DECODER;
        let mut tensors = vec![
            ("ln.weight", [HIDDEN, 0]),
            ("ln.bias", [HIDDEN, 0]),
            ("embed", [Primitive::ROWS, HIDDEN]),
            ("embed_spatial", [KERNEL_ROWS, PART]),
            ("embed_channel", [CHANNEL_ROWS, PART]),
            ("gnn.mlp.0.weight", [MESSAGE, HIDDEN]),
            ("gnn.mlp.0.bias", [MESSAGE, 0]),
            ("gnn.mlp.1.weight", [HIDDEN, MESSAGE]),
            ("gnn.mlp.1.bias", [HIDDEN, 0]),
            ("gnn.mlp_ve.0.weight", [MESSAGE, HIDDEN]),
            ("gnn.mlp_ve.0.bias", [MESSAGE, 0]),
            ("gnn.mlp_ve.1.weight", [HIDDEN, MESSAGE]),
            ("gnn.mlp_ve.1.bias", [HIDDEN, 0]),
            ("gnn.gru.weight_ih", [3 * HIDDEN, HIDDEN]),
            ("gnn.gru.weight_hh", [3 * HIDDEN, HIDDEN]),
            ("gnn.gru.bias_ih", [3 * HIDDEN, 0]),
            ("gnn.gru.bias_hh", [3 * HIDDEN, 0]),
            ("decoder.fc.weight", [d1 * k, HIDDEN]),
            ("decoder.fc.bias", [d1 * k, 0]),
            ("decoder.conv.0.weight", [d2, d1]),
            ("decoder.conv.0.bias", [d2, 0]),
            ("decoder.conv.1.weight", [CHANNELS * CHANNELS, d2]),
            ("decoder.conv.1.bias", [CHANNELS * CHANNELS, 0]),
            ("decoder.class.weight", [classes, CHANNELS]),
            ("decoder.class.bias", [classes, 0]),
            ("decoder_1d.0.weight", [CHANNELS, HIDDEN]),
            ("decoder_1d.0.bias", [CHANNELS, 0]),
            ("decoder_1d.1.weight", [2 * CHANNELS, CHANNELS]),
            ("decoder_1d.1.bias", [2 * CHANNELS, 0]),
            ("bias_class.weight", [classes, CHANNELS]),
            ("bias_class.bias", [classes, 0]),
        ];
        if self.bit_widths {
            tensors.push(("embed_weight_bits", [BIT_ROWS, HIDDEN]));
            tensors.push(("embed_activation_bits", [BIT_ROWS, HIDDEN]));
        }
        tensors
    }
}

/// Index of each tensor.
pub(super) mod slot {
    pub(crate) const LN: [usize; 2] = [0, 1];
    pub(crate) const EMBED: usize = 2;
    pub(crate) const EMBED_SPATIAL: usize = 3;
    pub(crate) const EMBED_CHANNEL: usize = 4;
    /// Weight and bias of both layers.
    pub(crate) const MLP: [usize; 4] = [5, 6, 7, 8];
    pub(crate) const MLP_VE: [usize; 4] = [9, 10, 11, 12];
    /// Of input and state, weights and biases.
    pub(crate) const GRU: [usize; 4] = [13, 14, 15, 16];
    pub(crate) const FC: [usize; 2] = [17, 18];
    pub(crate) const CONV0: [usize; 2] = [19, 20];
    pub(crate) const CONV1: [usize; 2] = [21, 22];
    pub(crate) const CLASS: [usize; 2] = [23, 24];
    pub(crate) const VECTOR0: [usize; 2] = [25, 26];
    pub(crate) const VECTOR1: [usize; 2] = [27, 28];
    pub(crate) const BIAS_CLASS: [usize; 2] = [29, 30];
    pub(crate) const WEIGHT_BITS: usize = 31;
    pub(crate) const ACTIVATION_BITS: usize = 32;
}

/// One tensor's name and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As in the checkpoint.
    pub name: &'static str,
    /// One or two extents, row-major.
    pub shape: Vec<usize>,
    /// Within [`Parameters::values`].
    pub range: Range<usize>,
}

/// Parameters, a gradient, or an optimizer's memory: equally long.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    config: Config,
    entries: Vec<Entry>,
    values: Vec<f32>,
}

impl Parameters {
    /// All zero.
    ///
    /// # Errors
    /// A form that is out of range, in words.
    pub fn zeros(config: Config) -> Result<Self, String> {
        config.check()?;
        let mut end = 0;
        let entry = |(name, [rows, columns]): (&'static str, [usize; 2])| {
            let shape = if columns == 0 { vec![rows] } else { vec![rows, columns] };
            let start = end;
            end += shape.iter().product::<usize>();
            Entry { name, shape, range: start..end }
        };
        let entries: Vec<Entry> = config.tensors().into_iter().map(entry).collect();
        Ok(Self { config, entries, values: vec![0.0; end] })
    }

    /// As GHN-2 starts: embeddings `N(0, 1)`, all else uniform within `1 / sqrt(fan_in)`, LayerNorm the identity, bit
    /// widths zero. The last layers of the decoders are divided by `damping`: 1 for GHN-2, 5 for GHN-3.
    ///
    /// # Errors
    /// A form that is out of range, in words.
    pub fn init(config: Config, seed: u64, damping: f32) -> Result<Self, String> {
        let mut new = Self::zeros(config)?;
        let mut fan_in = 1;
        for (i, entry) in new.entries.clone().into_iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            let values = &mut new.values[entry.range];
            match i {
                _ if i == slot::LN[0] => values.fill(1.0),
                slot::EMBED | slot::EMBED_SPATIAL | slot::EMBED_CHANNEL => {
                    values.iter_mut().for_each(|v| *v = normal(&mut rng));
                }
                _ if i == slot::LN[1] || i >= slot::WEIGHT_BITS => {}
                _ => {
                    // A bias has the fan-in of the weight before it; all of the GRU that of its state.
                    fan_in = entry.shape.get(1).copied().unwrap_or(fan_in);
                    let limit = 1.0 / (fan_in as f32).sqrt();
                    let last = [slot::CONV1, slot::CLASS, slot::VECTOR1, slot::BIAS_CLASS].concat().contains(&i);
                    let limit = if last { limit / damping } else { limit };
                    values.iter_mut().for_each(|v| *v = (2.0 * uniform(&mut rng) - 1.0) * limit);
                }
            }
        }
        Ok(new)
    }

    /// Draws the classifier's layer anew, uniform in -1 to 1 without biases.
    ///
    /// As GHN-2 starts, predicted classifiers are small and nearly of rank 1. In short runs they stay so: logits then lie on
    /// one line (animals against vehicles, for CIFAR-10), and so do the features that they train. A classifier that mixes all
    /// features anew ends that.
    pub fn redraw_classifier(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX);
        let [weights, biases] = self.pair_mut(slot::CLASS);
        weights.iter_mut().for_each(|v| *v = 2.0 * uniform(&mut rng) - 1.0);
        biases.fill(0.0);
    }

    /// The form.
    pub fn config(&self) -> Config {
        self.config
    }

    /// Has the weights of networks without BatchNorm treated otherwise; no value changes.
    pub fn set_norm_free(&mut self, norm_free: NormFree) {
        self.config.norm_free = norm_free;
    }

    /// Names and places.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Never.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One tensor.
    pub(super) fn get(&self, slot: usize) -> &[f32] {
        &self.values[self.entries[slot].range.clone()]
    }

    /// One tensor, to be changed.
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.values[self.entries[slot].range.clone()]
    }

    /// Two tensors, to be changed.
    pub(super) fn pair_mut(&mut self, [first, second]: [usize; 2]) -> [&mut [f32]; 2] {
        let ranges = [first, second].map(|slot| self.entries[slot].range.clone());
        self.values.get_disjoint_mut(ranges).expect("tensors do not overlap")
    }

    /// Euclidean length of all values.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
    }
}

/// Uniform in `[0, 1)`.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v) = (1.0 - uniform(rng), uniform(rng));
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
