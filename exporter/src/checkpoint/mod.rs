//! A network in a SafeTensors file, readable by whoever reads SafeTensors.
//!
//! *Enters*: a [`Network`] and whatever a training run wants to keep beside it ([`Extra`]). *Leaves*: the file, written
//! under a temporary name and renamed, and from it the same again. *Refused* with file, place, found and expected: files
//! that are truncated or foreign, tensors that are missing, of another type or length, values that are not finite, and
//! networks that hold integers (those belong into ONNX or a flash image).
//!
//! Tensors are `F32`: `<node>.weight` (`K C/groups R S`, or `K C`), `.bias`, `.gamma`, `.beta`, `.mean`, `.variance`. The
//! header's metadata has one entry, `intact`: JSON with `format` (1), `network` (the architecture, with empty lists
//! where tensors belong) and `state` (what [`Extra::state`] holds). One entry, because SafeTensors does not order them
//! and equal content is to give equal bytes.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::network::{Network, NetworkError, Op};

/// Version of the layout; files of any other are refused.
const FORMAT: u32 = 1;
/// The one entry of the metadata.
const KEY: &str = "intact";

/// What lies in a checkpoint beside the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    /// Further tensors; their names must differ from each other and from those of parameters.
    pub tensors: Vec<Values>,
    /// Anything else, as JSON; null if there is nothing.
    pub state: serde_json::Value,
}

/// A tensor by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Unique in the file.
    pub name: String,
    /// Extents, row-major.
    pub shape: Vec<usize>,
    /// Finite; as many as the shape says.
    pub values: Vec<f32>,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] crate::file::WriteError),
    /// Not a checkpoint, or a damaged one.
    #[error("{}: {place}: found {found}, expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Header, metadata or a tensor's name.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// The parts are sound, but they are no network.
    #[error("{}: {source}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NetworkError,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    network: Network,
    #[serde(default)]
    state: serde_json::Value,
}

/// Writes a network and what belongs to it.
///
/// # Errors
/// [`CheckpointError`]: the file cannot be written, or something in it is not finite or has the wrong length.
pub fn save(path: &Path, network: &Network, extra: &Extra) -> Result<(), CheckpointError> {
    network.check().map_err(|source| CheckpointError::Network { path: path.into(), source })?;
    let mut architecture = network.clone();
    let mut tensors = take_parameters(&mut architecture);
    if let Some(node) = architecture.nodes.iter().find(|node| has_integers(&node.op)) {
        let place = format!("node `{}`", node.name);
        return Err(content(path, place, "integers", "floats only; integers belong into ONNX or a flash image"));
    }
    tensors.extend(extra.tensors.iter().cloned());
    let mut names = std::collections::HashSet::new();
    for tensor in &tensors {
        if !names.insert(&tensor.name) {
            return Err(content(path, format!("tensor `{}`", tensor.name), "a second one", "unique names"));
        }
        check_values(path, tensor)?;
    }
    let header = Header { format: FORMAT, network: architecture, state: extra.state.clone() };
    let json = serde_json::to_string(&header)
        .map_err(|e| content(path, "metadata", e.to_string(), "something that JSON can hold"))?;
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| Ok((&tensor.name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .and_then(|views| safetensors::serialize(views, Some(HashMap::from([(KEY.to_string(), json)]))))
        .map_err(|e| content(path, "header", e.to_string(), "a SafeTensors file"))?;
    Ok(crate::file::write_atomically(path, &views)?)
}

/// Reads a network and what lies beside it.
///
/// # Errors
/// [`CheckpointError`], naming file and place.
pub fn load(path: &Path) -> Result<(Network, Extra), CheckpointError> {
    let bytes = std::fs::read(path).map_err(|source| CheckpointError::Io { path: path.into(), source })?;
    let foreign = |e: safetensors::SafeTensorError| {
        content(path, "header", format!("{} bytes that are not readable ({e})", bytes.len()), "a SafeTensors file")
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(foreign)?;
    let file = SafeTensors::deserialize(&bytes).map_err(foreign)?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(KEY))
        .ok_or_else(|| content(path, "metadata", format!("no entry `{KEY}`"), "a checkpoint of this program"))?;
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |e: serde_json::Error| content(path, format!("metadata `{KEY}`"), e.to_string(), "a network");
    let Format { format } = serde_json::from_str(json).map_err(unreadable)?;
    if format != FORMAT {
        return Err(content(path, "metadata `format`", format.to_string(), FORMAT.to_string()));
    }
    let Header { mut network, state, .. } = serde_json::from_str(json).map_err(unreadable)?;
    let mut parameters = std::collections::HashSet::new();
    let mut fault = None;
    each_parameter(&mut network, |name, _, values| {
        match file.tensor(&name).map_err(|_| content(path, format!("tensor `{name}`"), "nothing", "a tensor")) {
            Ok(view) => match read_values(path, &name, &view) {
                Ok(read) => *values = read.values,
                Err(e) => fault = fault.take().or(Some(e)),
            },
            Err(e) => fault = fault.take().or(Some(e)),
        }
        parameters.insert(name);
    });
    if let Some(fault) = fault {
        return Err(fault);
    }
    network.check().map_err(|source| CheckpointError::Network { path: path.into(), source })?;
    let mut tensors = Vec::new();
    for (name, view) in file.iter().filter(|(name, _)| !parameters.contains(*name)) {
        tensors.push(read_values(path, name, &view)?);
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((network, Extra { tensors, state }))
}

fn content(
    path: &Path,
    place: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> CheckpointError {
    CheckpointError::Content { path: path.into(), place: place.into(), found: found.into(), expected: expected.into() }
}

fn has_integers(op: &Op) -> bool {
    match op {
        Op::Conv2d(conv) => conv.integers.is_some(),
        Op::Dense(dense) => dense.integers.is_some(),
        _ => false,
    }
}

/// Visits name, shape and values of every parameter. A shape is left out (empty) where the values do not divide.
fn each_parameter(network: &mut Network, mut visit: impl FnMut(String, Vec<usize>, &mut Vec<f32>)) {
    for node in &mut network.nodes {
        let name = |suffix: &str| format!("{}.{suffix}", node.name);
        let layer = match &mut node.op {
            Op::Conv2d(conv) => {
                let [r, s] = conv.window.kernel;
                let k = conv.out_channels;
                let per_channel = conv.weight.len() / (k * r * s).max(1);
                Some((vec![k, per_channel, r, s], &mut conv.weight, &mut conv.bias))
            }
            Op::Dense(dense) => {
                let k = dense.out_features;
                Some((vec![k, dense.weight.len() / k.max(1)], &mut dense.weight, &mut dense.bias))
            }
            Op::BatchNorm(norm) => {
                for (suffix, values) in [
                    ("gamma", &mut norm.gamma),
                    ("beta", &mut norm.beta),
                    ("mean", &mut norm.mean),
                    ("variance", &mut norm.variance),
                ] {
                    visit(name(suffix), vec![values.len()], values);
                }
                None
            }
            _ => None,
        };
        if let Some((shape, weight, bias)) = layer {
            visit(name("weight"), shape, weight);
            if let Some(bias) = bias {
                visit(name("bias"), vec![bias.len()], bias);
            }
        }
    }
}

/// Moves the parameters out, leaving empty lists.
fn take_parameters(network: &mut Network) -> Vec<Values> {
    let mut tensors = Vec::new();
    each_parameter(network, |name, shape, values| {
        tensors.push(Values { name, shape, values: std::mem::take(values) });
    });
    tensors
}

fn read_values(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Values, CheckpointError> {
    if view.dtype() != Dtype::F32 {
        return Err(content(path, format!("tensor `{name}`"), format!("{:?}", view.dtype()), "F32"));
    }
    let values = view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let values = Values { name: name.into(), shape: view.shape().to_vec(), values };
    check_values(path, &values)?;
    Ok(values)
}

fn check_values(path: &Path, tensor: &Values) -> Result<(), CheckpointError> {
    let place = |i: String| format!("tensor `{}`{i}", tensor.name);
    let expected: usize = tensor.shape.iter().product();
    if tensor.values.len() != expected {
        let found = format!("{} values", tensor.values.len());
        return Err(content(path, place(String::new()), found, format!("{expected} for {:?}", tensor.shape)));
    }
    match tensor.values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(content(path, place(format!("[{i}]")), tensor.values[i].to_string(), "a finite number")),
        None => Ok(()),
    }
}
