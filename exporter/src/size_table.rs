//! What each width costs, tensor by tensor, on disk and in flash. Enters: a network in floats whose activations have encodings,
//! how its weights are quantized to so many bits, and how files are written. Leaves: bytes as they are in the float ONNX file,
//! in the quantized ones and in the flash images, all of which are written for it. Refuses what quantization and the writers
//! refuse.

use runtime::image::repr::OpKind;
use runtime::image::{Image, ImageError};

use crate::image::{self, ImageWriteError};
use crate::network::{Network, Node, Op};
use crate::onnx::{self, ReadError, WriteError, WriteOptions};
use crate::quantize::{QuantizeError, Weights, quantize};

/// Bits of the weights, one column each.
pub const WIDTHS: [u8; 3] = [8, 4, 2];

/// Bytes of one tensor, or of what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// `NODE weight`, `NODE bias`, or what else there is in a file.
    pub what: String,
    /// Elements of a tensor.
    pub elements: Option<usize>,
    /// In the ONNX file: float, then each of [`WIDTHS`].
    pub disk: [usize; 4],
    /// In the flash image, for each of [`WIDTHS`].
    pub flash: [usize; 3],
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum SizeTableError {
    /// The network cannot be quantized to a width.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// An ONNX file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An ONNX file that was written cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A flash image cannot be written.
    #[error(transparent)]
    Image(#[from] ImageWriteError),
    /// A flash image that was written cannot be read.
    #[error(transparent)]
    Check(#[from] ImageError),
}

/// The rows: weights and bias of each layer in order, what requantizes them, everything else, and last the whole files.
/// `weights` is the form of the weights at a width, `arrange` gives the network as the files want it.
///
/// # Errors
/// [`SizeTableError`].
pub fn measure(
    network: &Network,
    weights: impl Fn(u8) -> Weights,
    arrange: impl Fn(Network) -> Network,
    options: &WriteOptions,
) -> Result<Vec<Row>, SizeTableError> {
    let mut rows = Vec::new();
    // What each row is called in an ONNX file.
    let mut constants = Vec::new();
    for (node, [weight, bias]) in network.nodes.iter().filter_map(layer) {
        for (what, elements) in [("weight", weight), ("bias", bias)] {
            rows.push(Row { what: format!("{} {what}", node.name), elements: Some(elements), ..Default::default() });
            constants.push(format!("{}_{what}", node.name));
        }
    }
    let tensors = rows.len();
    rows.extend(
        ["scales, zero points, multipliers", "nodes and records, names, metadata", "the whole file"]
            .map(|what| Row { what: what.into(), ..Default::default() }),
    );
    let disk = |rows: &mut [Row], column: usize, file: &[u8]| -> Result<(), ReadError> {
        let summary = onnx::summarize(file, &network.name)?;
        let mut data = 0;
        for constant in &summary.initializers {
            data += constant.bytes;
            let row = constants.iter().position(|name| *name == constant.name).unwrap_or(tensors);
            rows[row].disk[column] += constant.bytes;
        }
        rows[tensors + 1].disk[column] = file.len() - data;
        rows[tensors + 2].disk[column] = file.len();
        Ok(())
    };
    disk(&mut rows, 0, &onnx::write_float(network, options)?)?;
    for (column, bits) in WIDTHS.into_iter().enumerate() {
        let quantized = arrange(quantize(network.clone(), weights(bits))?);
        disk(&mut rows, column + 1, &onnx::write_qdq(&quantized, options)?)?;
        let file = image::write(&quantized)?;
        let mut data = 0;
        for op in Image::check(&file)?.ops() {
            let (OpKind::Conv2d { weights, .. } | OpKind::Dense { weights }) = op.repr.kind else { continue };
            let [weight, bias] = [weights.data, weights.bias].map(|span| span.len as usize);
            let rest = (weights.zero_points.len + weights.multipliers.len) as usize;
            data += weight + bias + rest;
            for (what, bytes) in [("weight", weight), ("bias", bias)] {
                let name = format!("{} {what}", op.name());
                rows[..tensors].iter_mut().filter(|row| row.what == name).for_each(|row| row.flash[column] += bytes);
            }
            rows[tensors].flash[column] += rest;
        }
        rows[tensors + 1].flash[column] = file.len() - data;
        rows[tensors + 2].flash[column] = file.len();
    }
    Ok(rows)
}

/// Elements of weights and bias of a layer; in integers each has a bias.
fn layer(node: &Node) -> Option<(&Node, [usize; 2])> {
    match &node.op {
        Op::Conv2d(conv) => Some((node, [conv.weight.len(), conv.out_channels])),
        Op::Dense(dense) => Some((node, [dense.weight.len(), dense.out_features])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Preset;
    use crate::pipeline;
    use crate::samples::{self, Sample};

    #[test]
    fn columns_add_up_to_the_files() {
        for (seed, preset) in Preset::ALL.into_iter().enumerate() {
            let float = samples::network(seed as u64, Sample { batch_norm: true, blocks: 4 });
            let images = samples::images(&float, 4, 1);
            let of = |bits| preset.options(bits, 8);
            let network = pipeline::prepare(&float, &images, &of(8)).unwrap().network;
            let options = WriteOptions { preset: Some(preset), storage: preset.storage(), ..Default::default() };
            let arrange = |network| preset.arrange(network);
            let rows = measure(&network, |bits| of(bits).weights, arrange, &options).unwrap();
            let (whole, parts) = rows.split_last().unwrap();
            for column in 0..4 {
                assert_eq!(parts.iter().map(|row| row.disk[column]).sum::<usize>(), whole.disk[column]);
            }
            for (column, bits) in WIDTHS.into_iter().enumerate() {
                assert_eq!(parts.iter().map(|row| row.flash[column]).sum::<usize>(), whole.flash[column]);
                let quantized = pipeline::quantize_network(&float, &images, &of(bits)).unwrap().network;
                let quantized = preset.arrange(quantized);
                assert_eq!(onnx::write_qdq(&quantized, &options).unwrap().len(), whole.disk[column + 1]);
                assert_eq!(image::write(&quantized).unwrap().len(), whole.flash[column]);
                for row in parts.iter().filter(|row| row.what.ends_with(" weight")) {
                    let packed = (row.elements.unwrap() * usize::from(bits)).div_ceil(8);
                    assert_eq!(row.disk[column + 1], packed, "{} of {preset:?}", row.what);
                    // Rows start on a byte, and may be in another order.
                    assert!(row.flash[column] >= packed, "{} of {preset:?}", row.what);
                }
            }
        }
    }
}
