//! How integers narrower than a byte stand in a file. Enters: encodings, and weights in integers. Leaves: element types,
//! the opset they need, and the nodes that make weights out of packed bytes. Refuses nothing.
//!
//! *Portable*: activations are bytes, and where they are written a Clip of integers holds them to the width; weights are
//! packed bytes that BitShift, BitwiseAnd and Reshape take apart, which engines do once, at load, and then run their 8 bit
//! kernels. *Native*: ONNX's own types. Widths that neither knows (3, 5, 6, 7) take the next larger one.

use super::{SHAPE, Sheet, UNPACKED};
use crate::network::Encoding;
use crate::onnx::builder::{Attribute, Builder, Element, packed};

/// How integers narrower than a byte are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Opset 19: bytes, of which engines need to know nothing. Loads and fuses everywhere.
    #[default]
    Portable,
    /// `INT4` and `UINT4` (opset 21), `INT2` and `UINT2` (opset 25). ONNX Runtime computes them in float, and at its default
    /// optimization level loads neither 2 bit nor MaxPool on 4 bit.
    Native,
}

impl Storage {
    /// Element type of an activation.
    pub(super) fn activation(self, encoding: &Encoding) -> Element {
        match (self, encoding.bits) {
            (Self::Native, 2 | 4) => Self::Native.weight(encoding),
            _ => byte(encoding),
        }
    }

    /// Element type of weights, as DequantizeLinear reads them.
    pub(super) fn weight(self, encoding: &Encoding) -> Element {
        match (self, encoding.bits, encoding.signed) {
            (Self::Native, 0..=2, false) => Element::U2,
            (Self::Native, 0..=2, true) => Element::I2,
            (Self::Native, 3 | 4, false) => Element::U4,
            (Self::Native, 3 | 4, true) => Element::I4,
            _ => byte(encoding),
        }
    }

    /// Whether values in the type of the activation must still be held to the encoding's limits.
    pub(super) fn overhangs(self, encoding: &Encoding) -> bool {
        encoding.bits < 8 && self.activation(encoding) == byte(encoding)
    }
}

/// First opset with an element type, and the IR version that goes with it.
pub(super) fn versions(element: Element) -> (i64, i64) {
    match element {
        Element::U2 | Element::I2 => (25, 13),
        Element::U4 | Element::I4 => (21, 10),
        _ => (super::OPSET, super::IR_VERSION),
    }
}

/// Whether an element is less than a byte.
pub(super) fn is_narrow(element: Element) -> bool {
    versions(element).0 > super::OPSET
}

fn byte(encoding: &Encoding) -> Element {
    if encoding.signed { Element::I8 } else { Element::U8 }
}

impl Sheet<'_> {
    /// Adds the integers of a layer's weights and returns the name and type of the value.
    pub(super) fn weights(
        &mut self,
        name: &str,
        encoding: &Encoding,
        dims: &[usize],
        values: &[i64],
    ) -> (String, Element) {
        let element = self.storage.weight(encoding);
        self.needs(element);
        if self.storage == Storage::Native || encoding.bits > 4 {
            return (self.builder.integers(name, element, dims, values), element);
        }
        (self.unpack(name, encoding, dims, values), element)
    }

    /// Packed bytes `n x 1`, shifted to `n x (values in a byte)`, masked, in the form of the weights.
    fn unpack(&mut self, name: &str, encoding: &Encoding, dims: &[usize], values: &[i64]) -> String {
        let bits = if encoding.bits <= 2 { 2 } else { 4 };
        let Self { builder, .. } = self;
        let bytes: Vec<i64> = packed(values, bits).into_iter().map(i64::from).collect();
        let each = 8 / bits;
        let stored = builder.integers(name, Element::U8, &[bytes.len(), 1], &bytes);
        let shifts: Vec<i64> = (0..8).step_by(bits).collect();
        let shifts = builder.shared_integers("shifts", Element::U8, &[1, each], &shifts);
        let mask = builder.shared_integers("mask", Element::U8, &[], &[(1 << bits) - 1]);
        let step = |builder: &mut Builder, op: &str, inputs: &[&str], attributes| {
            let output = builder.numbered(UNPACKED);
            builder.node(op, "", inputs, &output, attributes);
            output
        };
        let direction = vec![("direction", Attribute::Text("RIGHT"))];
        let mut value = step(builder, "BitShift", &[&stored, &shifts], direction);
        value = step(builder, "BitwiseAnd", &[&value, &mask], vec![]);
        if encoding.signed {
            // Two's complement: the value of each pattern, looked up.
            let half = 1 << (bits - 1);
            let patterns: Vec<i64> = (0..half).chain(-half..0).collect();
            let table = builder.shared_integers("signed", Element::I8, &[patterns.len()], &patterns);
            value = step(builder, "Cast", &[&value], vec![("to", Attribute::Int(Element::I64 as i64))]);
            value = step(builder, "Gather", &[&table, &value], vec![]);
        }
        if bytes.len() * each > values.len() {
            // The last byte is not full.
            let [all, start, end] =
                [-1, 0, values.len() as i64].map(|at| builder.shared_integers(SHAPE, Element::I64, &[1], &[at]));
            value = step(builder, "Reshape", &[&value, &all], vec![]);
            value = step(builder, "Slice", &[&value, &start, &end], vec![]);
        }
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let shape = builder.shared_integers(SHAPE, Element::I64, &[dims.len()], &dims);
        step(builder, "Reshape", &[&value, &shape], vec![])
    }
}
