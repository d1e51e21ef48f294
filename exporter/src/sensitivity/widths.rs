//! Widths of weights, layer by layer. Enters: a calibrated network and the widths to choose from. Leaves: what each
//! layer costs in each of them, and the order in which to make layers narrower. Refuses: fewer than one width.
//!
//! The effects of layers are taken as independent, so that their QMSE adds up; the next layer to get narrower is the
//! one that adds least for each byte it saves. Whatever is chosen is then measured as a whole: nothing rests on the sum.

use serde::Serialize;

use super::{Reference, SensitivityError, only};
use crate::network::{Network, NodeId, Op};
use crate::quantize::{Weights, quantize, size};

/// One layer in every width.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerWidths {
    /// The layer's name.
    pub node: String,
    /// Mean squared difference of the network's outputs with only this layer's weights quantized; as many as there are
    /// widths.
    pub qmse: Vec<f64>,
    /// Bytes of its parameters as integers (see [`size::Size`]); as many as there are widths.
    pub bytes: Vec<u64>,
}

/// Every layer in every width.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Widths {
    /// Bits of weights, from wide to narrow.
    pub bits: Vec<u8>,
    /// In the order of the network.
    pub layers: Vec<LayerWidths>,
}

/// One layer gets narrower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Index into [`Widths::layers`].
    pub layer: usize,
    /// Index into [`Widths::bits`] from now on.
    pub width: usize,
    /// What it adds to the sum of the QMSE; may be negative, when the narrower one happens to fit better.
    pub qmse: f64,
    /// Bytes saved.
    pub bytes: u64,
}

impl Widths {
    /// Measures every layer in every width of `bits`, which are put from wide to narrow. The network is calibrated,
    /// `weights` is the form of the weights but for their width. `progress` is called after each layer and width.
    ///
    /// # Errors
    /// [`SensitivityError`].
    pub fn measure(
        calibrated: &Network,
        mut bits: Vec<u8>,
        weights: Weights,
        reference: &Reference,
        progress: impl Fn(),
    ) -> Result<Self, SensitivityError> {
        bits.sort_unstable_by(|a, b| b.cmp(a));
        bits.dedup();
        let is_layer = |id: &NodeId| matches!(calibrated.nodes[*id].op, Op::Conv2d(_) | Op::Dense(_));
        let ids: Vec<NodeId> = (0..calibrated.nodes.len()).filter(is_layer).collect();
        let empty = |id: &NodeId| LayerWidths {
            node: calibrated.nodes[*id].name.clone(),
            qmse: Vec::with_capacity(bits.len()),
            bytes: Vec::with_capacity(bits.len()),
        };
        let mut layers: Vec<LayerWidths> = ids.iter().map(empty).collect();
        for &bits in &bits {
            let quantized = quantize(calibrated.clone(), Weights { bits, ..weights })?;
            let sizes = size::sizes(&quantized).layers;
            for ((layer, &id), size) in layers.iter_mut().zip(&ids).zip(sizes) {
                layer.qmse.push(reference.effect(&only(&quantized, Some(id), None))?.qmse);
                layer.bytes.push(size.integer);
                progress();
            }
        }
        Ok(Self { bits, layers })
    }

    /// The order in which layers get narrower, from all in the widest to all in the narrowest.
    pub fn steps(&self) -> Vec<Step> {
        let mut at = vec![0; self.layers.len()];
        let mut steps = Vec::new();
        loop {
            // To any narrower width, not only the next: the one between may be the worst of the three.
            let moves = at.iter().enumerate().flat_map(|(layer, &from)| {
                let widths = &self.layers[layer];
                (from + 1..self.bits.len()).map(move |width| Step {
                    layer,
                    width,
                    qmse: widths.qmse[width] - widths.qmse[from],
                    bytes: widths.bytes[from].saturating_sub(widths.bytes[width]),
                })
            });
            let price = |step: &Step| step.qmse / step.bytes.max(1) as f64;
            // The first of equals: the order of the network decides.
            let Some(best) = moves.min_by(|a, b| price(a).total_cmp(&price(b))) else { return steps };
            at[best.layer] = best.width;
            steps.push(best);
        }
    }

    /// Bits of each layer after the first `count` steps.
    pub fn after(&self, steps: &[Step], count: usize) -> Vec<u8> {
        let mut at = vec![0; self.layers.len()];
        for step in &steps[..count.min(steps.len())] {
            at[step.layer] = step.width;
        }
        at.into_iter().map(|width| self.bits[width]).collect()
    }
}

/// The least `n` in `0..=most` for which `holds`, which must go on holding once it does; `None` if it never does.
///
/// # Errors
/// The first of `holds`.
pub fn first_that<E>(most: usize, mut holds: impl FnMut(usize) -> Result<bool, E>) -> Result<Option<usize>, E> {
    let (mut low, mut high) = (0, most + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok((low <= most).then_some(low))
}
