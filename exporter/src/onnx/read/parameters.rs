//! Weights and biases. Enters: constants, float or stored as integers with scale and zero point. Leaves: the parameters of a
//! layer in the network's layout, and its [`Integers`] where the file has them, number for number. Refuses: computed
//! weights, weights in integers on float activations and the reverse, a bias whose scale is not that of its accumulator.

use std::rc::Rc;

use tract_onnx::pb::NodeProto;

use super::file::{INT32, dims, floats, type_name, width};
use super::import::{Activation, Fault, Form, Import, Value};
use crate::network::{Encoding, Integers};

/// A constant of integers with scale and zero point.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) dims: Vec<usize>,
    pub(super) values: Rc<Vec<i32>>,
    /// [`INT32`], or one that [`width`] knows.
    pub(super) data_type: i32,
    /// Bits in use, at most those of the type.
    pub(super) bits: u8,
    /// One, or one for each index of `axis`.
    pub(super) scale: Vec<f32>,
    /// As many as there are scales.
    pub(super) zero_point: Vec<i32>,
    pub(super) axis: usize,
    /// Whether DequantizeLinear stands behind it.
    pub(super) dequantized: bool,
}

/// A constant input of a layer.
pub(super) enum Parameter {
    Float { dims: Vec<usize>, values: Vec<f32> },
    Stored(Stored),
}

impl Parameter {
    pub(super) fn dims(&self) -> &[usize] {
        match self {
            Self::Float { dims, .. } => dims,
            Self::Stored(stored) => &stored.dims,
        }
    }

    /// Floats times `factor`, which is the attribute `name`; integers know the factor 1 only.
    pub(super) fn times(self, name: &str, factor: f32) -> Result<Self, Fault> {
        match self {
            parameter if factor == 1.0 => Ok(parameter),
            Self::Float { dims, values } => {
                Ok(Self::Float { values: values.iter().map(|v| v * factor).collect(), dims })
            }
            Self::Stored(_) => Err(format!("{name} is {factor}, expected 1 in a quantized file").into()),
        }
    }

    /// Swaps rows and columns of a matrix.
    pub(super) fn transposed(self) -> Self {
        match self {
            Self::Float { dims, values } => {
                Self::Float { values: transpose(&values, dims[0], dims[1]), dims: vec![dims[1], dims[0]] }
            }
            Self::Stored(s) => Self::Stored(Stored {
                values: Rc::new(transpose(&s.values, s.dims[0], s.dims[1])),
                dims: vec![s.dims[1], s.dims[0]],
                axis: 1 - s.axis.min(1),
                ..s
            }),
        }
    }

    /// Puts column `order[i]` of a matrix at column `i`.
    pub(super) fn with_columns(self, order: &[usize]) -> Self {
        fn pick<T: Copy>(values: &[T], order: &[usize]) -> Vec<T> {
            values.chunks_exact(order.len()).flat_map(|row| order.iter().map(|&i| row[i])).collect()
        }
        match self {
            Self::Float { dims, values } => Self::Float { values: pick(&values, order), dims },
            Self::Stored(s) => Self::Stored(Stored { values: Rc::new(pick(&s.values, order)), ..s }),
        }
    }
}

fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// The parameters of a convolution or dense layer.
pub(super) struct Layer {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) integers: Option<Integers>,
}

impl<'m> Import<'m> {
    /// Input `i` as a constant; `None` where it is left out.
    pub(super) fn parameter(&mut self, node: &NodeProto, i: usize) -> Result<Option<Parameter>, Fault> {
        let parameter = match self.input(node, i) {
            None => return Ok(None),
            Some(Value::Missing) => return Err(Fault::Downstream),
            Some(Value::Activation(_) | Value::Tail(_)) => {
                return Err(format!("input {i} (`{}`) is computed, expected a constant", node.input[i]).into());
            }
            Some(Value::Stored(stored)) if stored.dequantized => Parameter::Stored(stored.clone()),
            Some(Value::Stored(_)) => {
                return Err(format!("input {i} (`{}`) is not dequantized", node.input[i]).into());
            }
            Some(Value::Constant(constant)) => Parameter::Float { dims: dims(constant), values: floats(constant)? },
        };
        let elements = match &parameter {
            Parameter::Float { values, .. } => values.len(),
            Parameter::Stored(stored) => stored.values.len(),
        };
        if elements == 0 {
            return Err(format!("input {i} (`{}`) holds no element", node.input[i]).into());
        }
        self.charge(elements)?;
        Ok(Some(parameter))
    }

    /// Input `i` as a float constant of `len` elements.
    pub(super) fn vector_of(&mut self, node: &NodeProto, i: usize, len: usize) -> Result<Vec<f32>, Fault> {
        match self.parameter(node, i)? {
            Some(Parameter::Float { values, .. }) if values.len() == len => Ok(values),
            Some(p) => Err(format!("input {i} has dims {:?}, expected {len} floats", p.dims()).into()),
            None => Err(Fault::Damaged(format!("input {i} is missing"))),
        }
    }

    /// Puts weights (first axis: the `K` output channels) and bias together for a layer that reads `x`.
    pub(super) fn layer(
        &mut self,
        node: &NodeProto,
        x: Activation,
        weights: Parameter,
        bias: Option<Parameter>,
    ) -> Result<Layer, Fault> {
        match weights {
            Parameter::Float { .. } if x.form == Form::Dequantized => {
                Err("its weights are float, though its input is quantized; quantize them too".into())
            }
            Parameter::Float { values, .. } => {
                let bias = match bias {
                    Some(Parameter::Stored(_)) => return Err("its bias is quantized, its weights are not".into()),
                    Some(Parameter::Float { values, .. }) => Some(values),
                    None => None,
                };
                Ok(Layer { weight: values, bias, integers: None })
            }
            Parameter::Stored(stored) => {
                let encoding = weight_encoding(&stored)?;
                let channels = stored.dims[0];
                let per = stored.values.len() / channels;
                let dequantize = |(i, &q): (usize, &i32)| encoding.dequantize(i / per, q);
                let mut layer = Layer {
                    weight: stored.values.iter().enumerate().map(dequantize).collect(),
                    bias: None,
                    integers: Some(Integers {
                        weight: stored.values.iter().map(|&q| q as i16).collect(),
                        bias: vec![0; channels],
                        encoding,
                    }),
                };
                self.accumulator_scales(x, &layer)?;
                if let Some(bias) = bias {
                    self.set_bias(node, x, &mut layer, bias)?;
                }
                Ok(layer)
            }
        }
    }

    /// Gives a layer that reads `x` its bias.
    pub(super) fn set_bias(
        &mut self,
        node: &NodeProto,
        x: Activation,
        layer: &mut Layer,
        bias: Parameter,
    ) -> Result<(), Fault> {
        let Some(channels) = layer.integers.as_ref().map(|i| i.bias.len()) else {
            return match bias {
                Parameter::Float { values, .. } => {
                    layer.bias = Some(values);
                    Ok(())
                }
                Parameter::Stored(_) => Err("its bias is quantized, its weights are not".into()),
            };
        };
        let scales = self.accumulator_scales(x, layer)?;
        let place = super::file::node_name(node);
        let integers = match bias {
            Parameter::Float { values, .. } => {
                self.notes
                    .push(format!("`{place}`: its float bias has been quantized with the scale of its accumulator"));
                // The cast saturates.
                values.iter().zip(&scales).map(|(b, s)| (b / s).round_ties_even() as i32).collect::<Vec<_>>()
            }
            Parameter::Stored(stored) => {
                if stored.data_type != INT32 || stored.zero_point.iter().any(|&z| z != 0) {
                    let found = type_name(stored.data_type);
                    return Err(format!(
                        "bias of type {found}, zero points {:?}; expected INT32 and 0",
                        stored.zero_point
                    )
                    .into());
                }
                let mut exact = true;
                for (k, &expected) in scales.iter().enumerate() {
                    let found = stored.scale[if stored.scale.len() == 1 { 0 } else { k.min(stored.scale.len() - 1) }];
                    exact &= found == expected;
                    if (f64::from(found) / f64::from(expected) - 1.0).abs() > 1e-5 {
                        let reason =
                            format!("scale {found:e} of bias {k}, expected input scale * weight scale = {expected:e}");
                        return Err(reason.into());
                    }
                }
                if !exact {
                    self.notes.push(format!(
                        "`{place}`: scales of the bias differ from input scale * weight scale by rounding"
                    ));
                }
                stored.values.to_vec()
            }
        };
        if integers.len() != channels {
            return Err(format!("{} biases for {channels} output channels", integers.len()).into());
        }
        layer.bias = Some(integers.iter().zip(&scales).map(|(&b, s)| b as f32 * s).collect());
        if let Some(layer) = &mut layer.integers {
            layer.bias = integers;
        }
        Ok(())
    }

    /// `f32(sx * sw[k])` for each output channel.
    fn accumulator_scales(&self, x: Activation, layer: &Layer) -> Result<Vec<f32>, Fault> {
        let (Some(input), Some(integers), Form::Dequantized) =
            (&self.network.tensors[x.tensor].encoding, &layer.integers, x.form)
        else {
            return Err(
                "its weights are quantized, its input is not (weight-only quantization computes in float); quantize \
                        the activations too"
                    .into(),
            );
        };
        let scales: Vec<f32> =
            (0..integers.bias.len()).map(|k| input.scale[0] * integers.encoding.channel(k).0).collect();
        match scales.iter().find(|s| !s.is_normal()) {
            Some(scale) => Err(format!("input scale * weight scale is {scale:e}, which is no normal number").into()),
            None => Ok(scales),
        }
    }
}

/// The encoding of stored weights whose first axis are the output channels.
fn weight_encoding(stored: &Stored) -> Result<Encoding, Fault> {
    let Some((_, signed)) = width(stored.data_type) else {
        return Err(format!("weights of type {}, expected 8, 4 or 2 bit", type_name(stored.data_type)).into());
    };
    let per_channel = stored.scale.len() > 1;
    if per_channel && (stored.axis != 0 || stored.scale.len() != stored.dims[0]) {
        let (scales, axis, dims) = (stored.scale.len(), stored.axis, &stored.dims);
        let reason = "expected one for each output channel";
        return Err(
            format!("{scales} weight scales along axis {axis} of {dims:?} (output channels first); {reason}").into()
        );
    }
    Ok(Encoding {
        bits: stored.bits.max(2),
        signed,
        scale: stored.scale.clone(),
        zero_point: stored.zero_point.clone(),
    })
}

/// Elements of a stored constant that lies in the file as `constant`.
pub(super) fn stored_values(constant: &tract_onnx::pb::TensorProto) -> Result<Vec<i32>, String> {
    let values = super::file::integers(constant)?;
    // Only INT64 could be out of range, and that has been refused by the callers.
    Ok(values.into_iter().map(|v| v as i32).collect())
}
