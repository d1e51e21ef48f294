//! What travels in `metadata_props`: everything that an engine does not need and a person does. Enters: a network.
//! Leaves: key and value pairs, and back. Refuses values under our keys that are not what we write.
//!
//! | key | value |
//! |---|---|
//! | `intact.arithmetic` | name of the arithmetic contract; only in quantized files |
//! | `intact.preprocessing` | JSON: `height`, `width`, `channel_order`, `mean`, `std` |
//! | `intact.labels` | JSON list of the class names; left out where there are none |
//! | `intact.provenance` | 64 hexadecimal digits, BLAKE3 of the network that was exported; a flash image of that network bears the same |

use serde::{Deserialize, Serialize};

use crate::image::provenance;
use crate::network::{Network, Preprocessing};

/// Name of the arithmetic contract of `docs/arithmetic.md`.
pub const CONTRACT: &str = "ort-f32-rne";

pub(super) const ARITHMETIC: &str = "intact.arithmetic";
pub(super) const PREPROCESSING: &str = "intact.preprocessing";
pub(super) const LABELS: &str = "intact.labels";
pub(super) const PROVENANCE: &str = "intact.provenance";

/// [`Preprocessing`] as it travels: `x = (pixel / 255 - mean[c]) / std[c]`, in f32, in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Travelling {
    height: usize,
    width: usize,
    /// `RGB`; null where there are not three channels.
    channel_order: Option<String>,
    mean: Vec<f32>,
    std: Vec<f32>,
}

/// The pairs of a network, in the order of the table above.
pub(super) fn pairs(network: &Network, quantized: bool) -> Vec<(&'static str, String)> {
    let shape = network.tensors[network.input].shape;
    let travelling = Travelling {
        height: shape.h,
        width: shape.w,
        channel_order: (shape.c == 3).then(|| "RGB".into()),
        mean: network.preprocessing.mean.clone(),
        std: network.preprocessing.std.clone(),
    };
    let json = |value: serde_json::Result<String>| value.expect("numbers and text have a JSON form");
    let mut pairs = Vec::new();
    if quantized {
        pairs.push((ARITHMETIC, CONTRACT.to_string()));
    }
    pairs.push((PREPROCESSING, json(serde_json::to_string(&travelling))));
    if !network.labels.is_empty() {
        pairs.push((LABELS, json(serde_json::to_string(&network.labels))));
    }
    pairs.push((PROVENANCE, provenance(network).iter().map(|byte| format!("{byte:02x}")).collect()));
    pairs
}

/// What a file says about itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) preprocessing: Option<Preprocessing>,
    /// Height and width that go with it.
    pub(super) size: Option<[usize; 2]>,
    pub(super) labels: Vec<String>,
    pub(super) provenance: Option<[u8; 32]>,
}

/// Reads the pairs back. The error is text: key, found, expected.
pub(super) fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Found, String> {
    let mut found = Found::default();
    for (key, value) in pairs {
        match key {
            ARITHMETIC if value != CONTRACT => {
                return Err(format!("metadata `{key}`: found {value:?}, expected {CONTRACT:?}"));
            }
            PREPROCESSING => {
                let t: Travelling = serde_json::from_str(value).map_err(|e| format!("metadata `{key}`: {e}"))?;
                if t.channel_order.as_ref().is_some_and(|order| order != "RGB") {
                    return Err(format!("metadata `{key}`: channel order {:?}, expected RGB", t.channel_order));
                }
                found.size = Some([t.height, t.width]);
                found.preprocessing = Some(Preprocessing { mean: t.mean, std: t.std });
            }
            LABELS => found.labels = serde_json::from_str(value).map_err(|e| format!("metadata `{key}`: {e}"))?,
            PROVENANCE => found.provenance = Some(hash(value).ok_or_else(|| format!("metadata `{key}`: {value:?}"))?),
            _ => {}
        }
    }
    Ok(found)
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}
