//! How large would it become? Enters: the bytes of a protobuf message that claims to be an ONNX model. Leaves: nothing, if
//! decoding it is affordable. Refuses: more messages than any real model has. An empty message takes two bytes in a file and
//! several hundred in memory, so a file of some megabytes could otherwise ask for gigabytes.
//!
//! Only lengths and field numbers are looked at; what is malformed is left to the decoder, which says where.

/// Nodes, attributes, tensors, value infos and so on in one file, together. A network of 1000 layers has about 20,000.
const MESSAGES: usize = 200_000;
/// Graphs within attributes within graphs; as deep as the decoder goes.
const DEPTH: usize = 100;

/// The messages that hold messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Value,
    Type,
    TensorType,
    Shape,
    Function,
    Training,
    Annotation,
    /// Holds no message.
    Leaf,
}

impl Kind {
    /// The message in field `field`; `None` for text and numbers. The numbers are those of `onnx.proto3` (IR 9).
    fn child(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::Value,
            (Self::Graph, 14) => Self::Annotation,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Node, 5) => Self::Attribute,
            (Self::Value, 2) | (Self::Attribute, 14 | 15) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Model, 8 | 14) | (Self::Training, 3 | 4) | (Self::Function, 9) => Self::Leaf,
            (Self::Tensor, 3 | 13) | (Self::Shape, 1) | (Self::Annotation, 2) => Self::Leaf,
            _ => return None,
        })
    }
}

/// Checks a whole file. The error is text.
pub(super) fn affordable(bytes: &[u8]) -> Result<(), String> {
    let mut count = 0;
    walk(bytes, Kind::Model, 0, &mut count);
    if count > MESSAGES {
        return Err(format!("holds more than {MESSAGES} protobuf messages, which is no model"));
    }
    Ok(())
}

/// Counts the messages below `bytes`; stops at the first malformed field and beyond the limits.
fn walk(mut bytes: &[u8], kind: Kind, depth: usize, count: &mut usize) {
    while let Some(tag) = varint(&mut bytes) {
        let skipped = match tag & 7 {
            0 => varint(&mut bytes).map(|_| 0),
            1 => Some(8),
            5 => Some(4),
            2 => varint(&mut bytes).and_then(|len| usize::try_from(len).ok()),
            _ => None,
        };
        let Some((field, rest)) = skipped.and_then(|len| bytes.split_at_checked(len)) else { return };
        bytes = rest;
        if tag & 7 == 2
            && let Some(child) = kind.child(tag >> 3)
        {
            *count += 1;
            if *count > MESSAGES {
                return;
            }
            if depth < DEPTH {
                walk(field, child, depth + 1, count);
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
