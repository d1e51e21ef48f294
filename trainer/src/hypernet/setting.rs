//! What a network runs at: bits of weights and activations, and how they are simulated. Enters: names as `float`, `w4a8`.
//! Leaves: [`Setting`]s. Refused: other names, with what is expected.

use super::parameters::slot;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bits of weights and activations; 0 for floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Setting {
    /// 0, or 2 to 8.
    pub weights: u8,
    /// 0, or 2 to 8.
    pub activations: u8,
}

/// A name that is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bits: found `{0}`, expected `float` or `w<bits>a<bits>` with 2 to 8 bits, as in w4a8")]
pub struct SettingError(String);

impl Setting {
    /// Nothing is quantized.
    pub const FLOAT: Self = Self { weights: 0, activations: 0 };

    /// Floats and the paper's four.
    pub const PAPER: [Self; 5] = [Self::FLOAT, Self::new(8, 8), Self::new(4, 8), Self::new(4, 4), Self::new(2, 2)];

    /// So many bits; 0 for floats.
    pub const fn new(weights: u8, activations: u8) -> Self {
        Self { weights, activations }
    }

    /// Whether nothing is quantized.
    pub const fn is_float(self) -> bool {
        self.weights == 0 && self.activations == 0
    }

    /// Embedding and row of each width.
    pub(super) fn rows(self) -> [(usize, usize); 2] {
        let row = |bits: u8| usize::from(bits.saturating_sub(1));
        [(slot::WEIGHT_BITS, row(self.weights)), (slot::ACTIVATION_BITS, row(self.activations))]
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(name: &str) -> Result<Self, SettingError> {
        if name == "float" {
            return Ok(Self::FLOAT);
        }
        let bits = |text: &str| text.parse().ok().filter(|bits| (2..=8).contains(bits));
        let both = name.strip_prefix('w').and_then(|rest| rest.split_once('a'));
        both.and_then(|(w, a)| Some(Self::new(bits(w)?, bits(a)?))).ok_or_else(|| SettingError(name.into()))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_float() { f.pad("float") } else { f.pad(&format!("w{}a{}", self.weights, self.activations)) }
    }
}

impl Serialize for Setting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
