//! How a hypernetwork is trained. Enters: figures. Leaves: the learning rate and the bit widths of every step. Refused:
//! figures out of range.

use crate::graph::Space;
use crate::hypernet::{NormFree, Normalization, Ranges, Rounding, Setting};
use serde::{Deserialize, Serialize};

/// How the rate falls from its highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fall {
    /// To a tenth after three quarters of the steps, as in the paper.
    Step,
    /// Along half a cosine to 0.
    Cosine,
    /// Not at all: for runs that the average makes usable at any time.
    Constant,
}

/// Everything that decides what is learned, data aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Everything random comes from it.
    pub seed: u64,
    /// Design space of the networks.
    pub space: Space,
    /// Only networks without BatchNorm (the paper's BNFree-ConvNets-50K).
    pub norm_free: bool,
    /// Share of the networks of a step that comes from those without BatchNorm, beside those that the space has anyway.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub norm_free_share: f64,
    /// What is done to the weights of networks without BatchNorm.
    #[serde(default, skip_serializing_if = "NormFree::is_plain")]
    pub norm_free_form: NormFree,
    /// How many networks there are to draw from.
    pub nets: usize,
    /// Steps in all.
    pub steps: u64,
    /// Images that a network of a step sees.
    pub batch: usize,
    /// Whether each network of a step has images of its own, so that what is particular about them averages out in the gradient. In the
    /// paper all see the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own_images: bool,
    /// Whether each batch holds every class in its share of all images, so that which classes it happens to have is no noise in the
    /// gradient. In the paper batches are cut from shuffled images.
    #[serde(default, skip_serializing_if = "is_false")]
    pub balanced: bool,
    /// Whether images are shifted by up to four pixels, besides being mirrored.
    pub crop: bool,
    /// Networks of one step.
    pub meta_batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Steps in which it rises to that, linearly.
    pub warmup: u64,
    /// How it falls.
    pub fall: Fall,
    /// Share that the moving average of the parameters keeps in each step, 0 for none. The average is what is shipped.
    pub average: f32,
    /// Added to the gradient for each unit of a parameter (not decoupled).
    pub weight_decay: f32,
    /// Longest gradient; a longer one is shortened to it.
    pub clip: f32,
    /// Longest gradient of one network's own parameters, 0 for any; a longer one is shortened to it.
    pub clip_network: f32,
    /// Last layers of the decoders begin divided by it: 1 as GHN-2, 5 as GHN-3.
    pub damping: f32,
    /// Longest virtual edge.
    pub s_max: u8,
    /// Bit widths, drawn for each network of each step.
    pub settings: Vec<Setting>,
    /// Share of the steps before the first that quantizes.
    pub float_until: f64,
    /// What stands for a rounded value.
    pub rounding: Rounding,
    /// Up to so many bits of the weights it is noise that stands for a rounded value (NoiseQuant), as in the paper for W2/A2.
    pub noise_up_to: u8,
    /// Where BatchNorm stands in networks with quantized weights.
    pub normalization: Normalization,
    /// Ranges of tensors.
    pub ranges: Ranges,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Recipe {
    /// Section 4 of the paper: batch 32, meta-batch 4, 100 epochs of 45,000 images, Adam at 1e-3.
    pub fn paper(space: Space) -> Self {
        Self {
            seed: 1,
            space,
            norm_free: false,
            norm_free_share: 0.0,
            norm_free_form: NormFree::default(),
            nets: 250_000,
            steps: 140_700,
            batch: 32,
            own_images: false,
            balanced: false,
            crop: true,
            meta_batch: 4,
            rate: 1e-3,
            warmup: 0,
            fall: Fall::Step,
            average: 0.0,
            weight_decay: 1e-5,
            clip: 5.0,
            clip_network: 0.0,
            damping: 1.0,
            s_max: 10,
            settings: vec![Setting::FLOAT],
            float_until: 0.0,
            rounding: Rounding::Nearest,
            noise_up_to: 2,
            normalization: Normalization::Folded,
            ranges: Ranges::ABSOLUTE,
        }
    }

    /// Whether one hypernetwork serves several bit widths.
    pub fn encodes_bit_widths(&self) -> bool {
        self.settings.len() > 1
    }

    /// The rate of a step.
    pub fn rate_of(&self, step: u64) -> f32 {
        let warm = if step < self.warmup { (step + 1) as f64 / self.warmup as f64 } else { 1.0 };
        let share = step as f64 / self.steps as f64;
        let factor = match self.fall {
            Fall::Constant => 1.0,
            Fall::Step if share < 0.75 => 1.0,
            Fall::Step => 0.1,
            Fall::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
        };
        (f64::from(self.rate) * warm * factor) as f32
    }

    /// What the average keeps in the `steps`th step of the optimizer, counted from 1: less at the start, of which nothing is
    /// to stay.
    pub(super) fn keep(&self, steps: u64) -> f32 {
        self.average.min((steps as f32 - 1.0) / (steps as f32 + 9.0))
    }

    /// What stands for a rounded value at these widths.
    pub(super) fn rounding_of(&self, setting: Setting) -> Rounding {
        if setting.weights <= self.noise_up_to { Rounding::Noise } else { self.rounding }
    }

    /// Bit widths that a step may draw.
    pub(super) fn settings_of(&self, step: u64) -> &[Setting] {
        let float_steps = (self.float_until * self.steps as f64) as u64;
        if step < float_steps { &[Setting::FLOAT] } else { &self.settings }
    }

    /// Whether every figure lies in its range.
    ///
    /// # Errors
    /// The first that does not: found and expected.
    pub fn check(&self) -> Result<(), String> {
        let positive = [("rate", self.rate), ("clip", self.clip), ("damping", self.damping)];
        if let Some((name, v)) = positive.into_iter().find(|(_, v)| !(*v > 0.0 && v.is_finite())) {
            return Err(format!("{name}: found {v}, expected a positive number"));
        }
        if !(0.0..1.0).contains(&self.weight_decay) {
            return Err(format!("weight decay: found {}, expected 0 to 1", self.weight_decay));
        }
        self.ranges.check()?;
        if !(0.0..1.0).contains(&self.average) {
            return Err(format!("share kept by the average: found {}, expected 0 to 1", self.average));
        }
        if !(0.0..=1.0).contains(&self.float_until) {
            return Err(format!("share of float steps: found {}, expected 0 to 1", self.float_until));
        }
        if !(0.0..=1.0).contains(&self.norm_free_share) {
            return Err(format!("share without BatchNorm: found {}, expected 0 to 1", self.norm_free_share));
        }
        let counts =
            [self.nets, self.batch, self.meta_batch, self.settings.len(), self.s_max.into(), self.steps as usize];
        if counts.contains(&0) {
            return Err("nets, batch, meta-batch, settings, s_max and steps: expected at least 1 of each".into());
        }
        Ok(())
    }
}
