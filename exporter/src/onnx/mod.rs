//! ONNX files, out and in.
//!
//! *Enters*: a [`Network`](crate::network::Network), or the bytes of an ONNX file from anywhere. *Leaves*: an ONNX file
//! ([`write_float`], [`write_qdq`]), a network ([`read`]), or a listing ([`summarize`]). *Refused*: networks that are not
//! ready for the format asked for ([`WriteError`]), and files that are damaged or hold what a network cannot
//! ([`ReadError`], which names every such node at once).
//!
//! Quantized files are written in QDQ form: integers between nodes, `DequantizeLinear -> op -> QuantizeLinear` around
//! each. Engines fuse the three into one integer kernel; what they then compute is `docs/arithmetic.md`. Operators on
//! integers are there on request ([`Form`]); 4 and 2 bit integers travel in bytes or in types of their own ([`Storage`]);
//! [`Preset`] says which consumer wants what. Reading a file that was written here gives the same
//! integers and the same encodings.
//!
//! Names: the integers of tensor `t` are the value `t_quantized`; the graph's own input and output are floats and bear
//! the plain names.

mod builder;
mod error;
#[cfg(any(test, feature = "testing"))]
mod exercise;
mod metadata;
mod names;
mod preset;
mod read;
mod summary;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use error::{Finding, ReadError, WriteError};
#[cfg(any(test, feature = "testing"))]
pub use exercise::exercise;
pub use metadata::CONTRACT;
pub use preset::Preset;
pub use read::{Imported, ReadOptions, read};
pub use summary::{InitializerSummary, NodeSummary, QuantizationSummary, Summary, ValueSummary, summarize};
pub use write::{Batch, Form, Storage, WriteOptions, write_float, write_qdq};

/// Ending of the name of a tensor's integers.
const QUANTIZED: &str = "_quantized";
