//! Why an ONNX file is not written, or not read. Enters: what was found. Leaves: text that names file, place, found and
//! expected. Refuses nothing.

use crate::network::NetworkError;
use crate::quantize::QuantizeError;

/// Why a network is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It is not quantized, or not within what the integer ops compute exactly.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A node is not ready for this format.
    #[error("node `{node}`: {reason}")]
    Node {
        /// The node's name.
        node: String,
        /// Found, expected, what to do.
        reason: String,
    },
    /// A tensor is not ready for this format.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// Found, expected, what to do.
        reason: String,
    },
}

/// One thing in a file that a network cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The node's name (its first output where it has none), or `input`, `output`, `initializer` and a name.
    pub place: String,
    /// The node's operator; empty where it is not about a node.
    pub op: String,
    /// Found, expected, what to do.
    pub reason: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.op.is_empty() {
            write!(f, "{}: {}", self.place, self.reason)
        } else {
            write!(f, "`{}` ({}): {}", self.place, self.op, self.reason)
        }
    }
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes are no ONNX model, or contradict themselves.
    #[error("{file}: {reason}")]
    Damaged {
        /// The file, as the caller named it.
        file: String,
        /// Place, found, expected.
        reason: String,
    },
    /// A sound ONNX model with parts that a network cannot hold: all of them.
    #[error("{file}: {} part{} of this model cannot be imported:{}", findings.len(), if findings.len() == 1 { "" } else { "s" }, list(findings))]
    Unsupported {
        /// The file, as the caller named it.
        file: String,
        /// In the order of the file.
        findings: Vec<Finding>,
    },
    /// The file does not say how pixels become values, nor does the caller.
    #[error(
        "{file}: the file does not say how pixels become values (no `{}`); give mean and deviation of each of its \
         {channels} channels, of pixels scaled to 0..=1 (a model fed with 0..=1: mean 0, deviation 1; with 0..=255: mean 0, \
         deviation 1/255)",
        super::metadata::PREPROCESSING
    )]
    NoPreprocessing {
        /// The file, as the caller named it.
        file: String,
        /// Channels of the model's input.
        channels: usize,
    },
    /// What was read does not form a network.
    #[error("{file}: {fault}")]
    Network {
        /// The file, as the caller named it.
        file: String,
        /// The fault.
        fault: NetworkError,
    },
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
