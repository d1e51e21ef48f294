//! From a quantized network to the flash image.
//!
//! *Enters*: a network with encodings and integers ([`quantize`](mod@crate::quantize)). *Leaves*: the bytes of `model.intact`:
//! constants computed, weights reordered and packed, arena planned. The same network gives the same bytes. *Refused*:
//! networks that [`quantize::check`] refuses, extents and files beyond what the format holds.
//!
//! Offsets of fields are the runtime's matter ([`runtime::image::repr`]); what is written here is read back and checked
//! before it is returned.

mod pack;
mod patches;
mod target;
#[cfg(test)]
mod tests;
mod writer;

pub use target::{Target, UnknownTarget, pack};

use crate::network::{Network, Op};
use crate::plan::{Plan, TooLarge};
use crate::quantize::{self, QuantizeError};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageWriteError {
    /// The network is not quantized, or not within what the contract computes exactly.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The arena is beyond 4 GiB.
    #[error(transparent)]
    Arena(#[from] TooLarge),
    /// A number does not fit its field.
    #[error("{what}: found {found}, expected at most {limit}")]
    Field {
        /// Which number of which node or tensor.
        what: String,
        /// The number.
        found: u64,
        /// The largest that the field holds.
        limit: u64,
    },
    /// A node that only makes sense while another one follows.
    #[error("node `{node}`: {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// What is in the way.
        reason: String,
    },
    /// No number of first ops computed in so many patches makes the arena smaller.
    #[error("{count} patches: the arena has {arena} bytes without them, and no fewer with the first ops in patches")]
    Patches {
        /// How many.
        count: usize,
        /// Bytes.
        arena: u32,
    },
    /// What was written does not pass the runtime's own check: a fault of the writer, not of the network.
    #[error("the flash image that was written is refused by the runtime: {0}")]
    Refused(String),
}

/// The flash image of a quantized network.
///
/// # Errors
/// [`ImageWriteError`].
pub fn write(network: &Network) -> Result<Vec<u8>, ImageWriteError> {
    quantize::check(network)?;
    writer::Writer::new(network)?.write()
}

/// What patches cost and save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patched {
    /// Ops that are computed patch by patch, the first of the network.
    pub ops: usize,
    /// Bytes of the arena: without patches, with them.
    pub arena: [u32; 2],
    /// Multiply-accumulates, padding counted: without patches, with them.
    pub macs: [u64; 2],
}

/// The flash image of a quantized network whose first ops are computed patch by patch: bands of rows, `count` of them, 2 to 32. The
/// same integers come out; the arena is smaller, and what bands overlap in is computed more than once. As many ops are
/// computed so as make the arena smallest.
///
/// # Errors
/// As [`write()`]; [`ImageWriteError::Patches`] when the arena would not be smaller.
pub fn write_in_patches(network: &Network, count: usize) -> Result<(Vec<u8>, Patched), ImageWriteError> {
    quantize::check(network)?;
    let mut writer = writer::Writer::new(network)?;
    let patched = writer.patch(count)?;
    Ok((writer.write()?, patched))
}

/// Where each activation of the network would lie, and the arena's size.
///
/// # Errors
/// As [`write()`].
pub fn arena(network: &Network) -> Result<Plan, ImageWriteError> {
    quantize::check(network)?;
    Ok(writer::Writer::new(network)?.plan)
}

/// Whether the arena that [`arena`] would plan has at most so many bytes: the same answer, mostly long before there is a plan.
///
/// # Errors
/// As [`write()`].
pub fn arena_fits(network: &Network, most: u64) -> Result<bool, ImageWriteError> {
    quantize::check(network)?;
    writer::Writer::fits(network, most)
}

/// BLAKE3 of a network's canonical form: parameters, integers, encodings, topology, names.
pub fn provenance(network: &Network) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Debug text of floats is their shortest exact form, and the derived text has no addresses or hash order in it.
    let mut skeleton = network.clone();
    for node in &mut skeleton.nodes {
        let (weight, bias, integers) = match &mut node.op {
            Op::Conv2d(conv) => (&mut conv.weight, &mut conv.bias, &mut conv.integers),
            Op::Dense(dense) => (&mut dense.weight, &mut dense.bias, &mut dense.integers),
            _ => continue,
        };
        for value in std::mem::take(weight).into_iter().chain(bias.take().unwrap_or_default()) {
            hasher.update(&value.to_le_bytes());
        }
        if let Some(integers) = integers {
            for value in std::mem::take(&mut integers.weight) {
                hasher.update(&value.to_le_bytes());
            }
            for value in std::mem::take(&mut integers.bias) {
                hasher.update(&value.to_le_bytes());
            }
        }
    }
    hasher.update(format!("{skeleton:?}").as_bytes());
    *hasher.finalize().as_bytes()
}
