//! From bytes to messages that can be relied upon. Enters: bytes nobody vouches for. Leaves: tract's prost types, every
//! constant as long as its dims say. Refuses: what is no ONNX model, constants of the wrong length or outside the file.

use prost::Message;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::wire;

/// Numbers of `TensorProto.DataType` that a network can come from.
pub(in crate::onnx) const FLOAT: i32 = 1;
pub(in crate::onnx) const UINT8: i32 = 2;
pub(in crate::onnx) const INT8: i32 = 3;
pub(in crate::onnx) const INT32: i32 = 6;
pub(in crate::onnx) const INT64: i32 = 7;
pub(in crate::onnx) const UINT4: i32 = 21;
pub(in crate::onnx) const INT4: i32 = 22;
pub(in crate::onnx) const UINT2: i32 = 25;
pub(in crate::onnx) const INT2: i32 = 26;

/// Bits and signedness of a type that activations and weights can have.
pub(in crate::onnx) fn width(data_type: i32) -> Option<(u8, bool)> {
    Some(match data_type {
        UINT8 => (8, false),
        INT8 => (8, true),
        UINT4 => (4, false),
        INT4 => (4, true),
        UINT2 => (2, false),
        INT2 => (2, true),
        _ => return None,
    })
}

/// Decodes a model. The error is text.
pub(in crate::onnx) fn decode(bytes: &[u8]) -> Result<ModelProto, String> {
    wire::affordable(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|e| format!("no ONNX model: {e}"))?;
    // Other bytes may decode as well, into nothing.
    if model.ir_version < 1 || model.graph.is_none() {
        return Err(format!(
            "no ONNX model: IR version {}, {} graph",
            model.ir_version,
            if model.graph.is_some() { "one" } else { "no" }
        ));
    }
    Ok(model)
}

/// Checks the length of every constant of a graph. The error is text.
pub(in crate::onnx) fn check_constants(graph: &GraphProto) -> Result<(), String> {
    let inside = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    for tensor in graph.initializer.iter().chain(inside) {
        check_constant(tensor).map_err(|reason| format!("initializer `{}`: {reason}", tensor.name))?;
    }
    Ok(())
}

fn check_constant(tensor: &TensorProto) -> Result<(), String> {
    let expected = elements(tensor)?;
    if is_external(tensor) {
        return Ok(());
    }
    let Some(bits) = element_bits(tensor.data_type) else { return Ok(()) };
    if !tensor.raw_data.is_empty() {
        let bytes = (expected as u128 * bits).div_ceil(8);
        if tensor.raw_data.len() as u128 != bytes {
            return Err(format!("{} bytes of data, expected {bytes} for {:?}", tensor.raw_data.len(), tensor.dims));
        }
        return Ok(());
    }
    let found = match tensor.data_type {
        FLOAT => tensor.float_data.len(),
        INT64 => tensor.int64_data.len(),
        UINT8 | INT8 | INT32 => tensor.int32_data.len(),
        // Packed bytes, one an entry.
        UINT4 | INT4 | UINT2 | INT2 => {
            let entries = (expected as u128 * bits).div_ceil(8);
            if tensor.int32_data.len() as u128 != entries {
                let found = tensor.int32_data.len();
                return Err(format!("{found} packed bytes of data, expected {entries} for {:?}", tensor.dims));
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    if found != expected {
        return Err(format!("{found} elements of data, expected {expected} for {:?}", tensor.dims));
    }
    Ok(())
}

/// Product of the dims.
pub(super) fn elements(tensor: &TensorProto) -> Result<usize, String> {
    let product = tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    product.ok_or_else(|| format!("impossible dims {:?}", tensor.dims))
}

/// Whether the data lie in another file.
pub(in crate::onnx) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
}

/// Bits of one element in `raw_data`, for the types whose size is known here.
pub(in crate::onnx) fn element_bits(data_type: i32) -> Option<u128> {
    Some(match data_type {
        UINT2 | INT2 => 2,
        UINT4 | INT4 | 23 => 4,
        UINT8 | INT8 | 9 | 17..=20 => 8,
        4 | 5 | 10 | 16 => 16,
        FLOAT | INT32 | 12 => 32,
        INT64 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => return None,
    })
}

/// Name of an element type, for messages.
pub(in crate::onnx) fn type_name(data_type: i32) -> String {
    match data_type {
        // Newer than the types that tract knows.
        24 => "FLOAT8E8M0".into(),
        UINT2 => "UINT2".into(),
        INT2 => "INT2".into(),
        _ => tract_onnx::pb::tensor_proto::DataType::try_from(data_type)
            .map_or_else(|_| format!("type {data_type}"), |t| t.as_str_name().into()),
    }
}

/// Name of a node for messages: its own, or that of its first output.
pub(in crate::onnx) fn node_name(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

/// Dims of a constant that has been checked.
pub(in crate::onnx) fn dims(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&d| d as usize).collect()
}

/// Elements of a checked FLOAT constant. The error is text.
pub(in crate::onnx) fn floats(tensor: &TensorProto) -> Result<Vec<f32>, String> {
    usable(tensor, &[FLOAT])?;
    if tensor.raw_data.is_empty() {
        return Ok(tensor.float_data.clone());
    }
    Ok(tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Elements of a checked integer constant. The error is text.
pub(in crate::onnx) fn integers(tensor: &TensorProto) -> Result<Vec<i64>, String> {
    usable(tensor, &[UINT8, INT8, INT32, INT64, UINT4, INT4, UINT2, INT2])?;
    let raw = &tensor.raw_data;
    if let Some((bits @ (2 | 4), signed)) = width(tensor.data_type) {
        let typed = tensor.int32_data.iter().map(|&v| v as u8);
        let bytes: Vec<u8> = if raw.is_empty() { typed.collect() } else { raw.clone() };
        let each = 8 / usize::from(bits);
        let element = |i: usize| {
            let pattern = bytes[i / each] >> (i % each * usize::from(bits)) & ((1 << bits) - 1);
            i64::from(pattern) - if signed && pattern >> (bits - 1) == 1 { 1 << bits } else { 0 }
        };
        return Ok((0..elements(tensor)?).map(element).collect());
    }
    Ok(match tensor.data_type {
        // In typed fields every integer type but the 64 bit one is stored as i32.
        INT64 if raw.is_empty() => tensor.int64_data.clone(),
        UINT8 if raw.is_empty() => tensor.int32_data.iter().map(|&v| i64::from(v as u8)).collect(),
        INT8 if raw.is_empty() => tensor.int32_data.iter().map(|&v| i64::from(v as i8)).collect(),
        _ if raw.is_empty() => tensor.int32_data.iter().map(|&v| i64::from(v)).collect(),
        UINT8 => raw.iter().map(|&b| i64::from(b)).collect(),
        INT8 => raw.iter().map(|&b| i64::from(b as i8)).collect(),
        INT32 => raw.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        _ => raw.chunks_exact(8).map(|b| i64::from_le_bytes(std::array::from_fn(|i| b[i]))).collect(),
    })
}

/// The elements of a checked constant of whole bytes as they would lie in `raw_data`. The error is text.
pub(in crate::onnx) fn raw(tensor: &TensorProto) -> Result<Vec<u8>, String> {
    if tensor.data_type == FLOAT {
        return Ok(floats(tensor)?.iter().flat_map(|v| v.to_le_bytes()).collect());
    }
    let bytes = element_bits(tensor.data_type).unwrap_or(64) as usize / 8;
    Ok(integers(tensor)?.iter().flat_map(|v| v.to_le_bytes().into_iter().take(bytes)).collect())
}

fn usable(tensor: &TensorProto, types: &[i32]) -> Result<(), String> {
    if is_external(tensor) {
        return Err(format!("the data of `{}` lie outside this file; save the model as one file", tensor.name));
    }
    if !types.contains(&tensor.data_type) {
        let expected: Vec<String> = types.iter().map(|&t| type_name(t)).collect();
        return Err(format!(
            "`{}` is of type {}, expected {}",
            tensor.name,
            type_name(tensor.data_type),
            expected.join(" or ")
        ));
    }
    Ok(())
}

/// The attributes of one node. Every accessor takes the value that ONNX gives where the attribute is left out.
pub(super) struct Attributes<'m>(pub(super) &'m [AttributeProto]);

impl<'m> Attributes<'m> {
    pub(super) fn find(&self, name: &str) -> Option<&'m AttributeProto> {
        self.0.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).map_or(default, |a| a.f)
    }

    /// `None` where the attribute is left out.
    pub(super) fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.find(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn string(&self, name: &str, default: &'m str) -> &'m str {
        self.find(name).map_or(default, |a| std::str::from_utf8(&a.s).unwrap_or("(not UTF-8)"))
    }
}
