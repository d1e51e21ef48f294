//! The operations a network can hold, with float parameters and, once quantized, their integers. Enters: parameters in
//! ONNX layout. Leaves: output shapes. Refuses (as text that the caller puts next to the node's name): inputs that do
//! not fit.

use super::{Encoding, Function, Shape};
use serde::{Deserialize, Serialize};

/// A window that slides over the image: kernel, stride, padding, dilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// `R S`, at least 1.
    pub kernel: [usize; 2],
    /// Down and right, at least 1.
    pub stride: [usize; 2],
    /// Top, left, bottom, right, in pixels (ONNX order of `pads`).
    pub padding: [usize; 4],
    /// Distance between taps, at least 1.
    pub dilation: [usize; 2],
}

impl Window {
    /// A square window with the same stride both ways and `padding` on all four sides.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], dilation: [1; 2] }
    }

    /// `H W` of the output for an input of `h w`; `None` when the window does not fit once.
    pub fn output(&self, h: usize, w: usize) -> Option<[usize; 2]> {
        let extent = |size: usize, i: usize| {
            let reach = self.dilation[i].checked_mul(self.kernel[i].checked_sub(1)?)?.checked_add(1)?;
            let padded = size.checked_add(self.padding[i])?.checked_add(self.padding[i + 2])?;
            Some(padded.checked_sub(reach)?.checked_div(self.stride[i])? + 1)
        };
        Some([extent(h, 0)?, extent(w, 1)?])
    }
}

/// The integers of a convolution or dense layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Integers {
    /// Encoding of the weights: per tensor, or per output channel.
    pub encoding: Encoding,
    /// Quantized weights, in the layout of the float ones, each within the encoding's limits.
    pub weight: Vec<i16>,
    /// Quantized bias, scale `f32(input scale * weight scale)`, zero point 0; one for each output channel.
    pub bias: Vec<i32>,
}

impl Integers {
    /// Gives each of `channels` output channels a scale and zero point of its own, equal until changed.
    pub(crate) fn widen(&mut self, channels: usize) {
        let Encoding { scale, zero_point, .. } = &mut self.encoding;
        scale.resize(channels, scale[0]);
        zero_point.resize(channels, zero_point[0]);
    }

    /// Multiplies what output channel `k` stands for with `factor`: its scale, or, if that leaves no scale, its weights become
    /// 0; a negative factor mirrors integers and zero point. [`Self::widen`] first.
    pub(crate) fn multiply(&mut self, k: usize, factor: f64) {
        let row = self.weight.len() / self.bias.len();
        let (ends, zero_point) = (self.encoding.qmin() + self.encoding.qmax(), self.encoding.zero_point[k]);
        let scale = (f64::from(self.encoding.scale[k]) * factor.abs()) as f32;
        let weights = &mut self.weight[k * row..(k + 1) * row];
        if !scale.is_normal() {
            weights.fill(zero_point as i16);
            return;
        }
        self.encoding.scale[k] = scale;
        if factor < 0.0 {
            self.encoding.zero_point[k] = ends - zero_point;
            weights.iter_mut().for_each(|q| *q = (ends - i32::from(*q)) as i16);
        }
    }
}

/// ONNX Conv (opset 11), 2-D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2d {
    /// `K C/groups R S`, row-major.
    pub weight: Vec<f32>,
    /// One for each output channel.
    pub bias: Option<Vec<f32>>,
    /// Output channels `K`.
    pub out_channels: usize,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// 1 for a dense convolution, `C` for a depthwise one; divides `C` and `K`.
    pub groups: usize,
    /// Filled by `quantize`, or by the reader of a quantized file.
    pub integers: Option<Integers>,
}

/// ONNX Gemm (opset 13) with `transB = 1` and alpha = beta = 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// `K C`, row-major. `C` counts every element of the input, in `C H W` order.
    pub weight: Vec<f32>,
    /// One for each output.
    pub bias: Option<Vec<f32>>,
    /// Outputs `K`.
    pub out_features: usize,
    /// Filled by `quantize`, or by the reader of a quantized file.
    pub integers: Option<Integers>,
}

/// ONNX BatchNormalization (opset 15) in inference: `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Scale, one for each channel.
    pub gamma: Vec<f32>,
    /// Shift, one for each channel.
    pub beta: Vec<f32>,
    /// Running mean, one for each channel.
    pub mean: Vec<f32>,
    /// Running (biased) variance, one for each channel, not negative.
    pub variance: Vec<f32>,
    /// Positive.
    pub epsilon: f32,
}

/// Window of a pooling op; dilation is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Kernel, stride, padding.
    pub window: Window,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Convolution.
    Conv2d(Conv2d),
    /// Fully connected layer; its input may be an image, read in `C H W` order.
    Dense(Dense),
    /// Normalization with stored statistics; `fold` removes it.
    BatchNorm(BatchNorm),
    /// `clamp(x, min, max)` (ONNX Relu, Clip): ReLU is `0, +inf`, ReLU6 is `0, 6`.
    Clamp {
        /// Lower limit; may be `-inf`.
        #[serde(with = "super::limit")]
        min: f32,
        /// Upper limit, above `min`; may be `+inf`.
        #[serde(with = "super::limit")]
        max: f32,
    },
    /// An activation function that is no clamp.
    Function(Function),
    /// Maximum over a window; padding never wins (ONNX MaxPool, opset 12).
    MaxPool(Pool),
    /// Mean over a window; padding is not counted (ONNX AveragePool, opset 11, `count_include_pad = 0`).
    AveragePool(Pool),
    /// Mean over the whole image (ONNX GlobalAveragePool).
    GlobalAveragePool,
    /// Sum of two tensors of one shape (ONNX Add).
    Add,
    /// Product of two tensors of one shape, or of an image and a vector, by which every pixel is multiplied (ONNX Mul).
    Mul,
    /// Zeros around the image (ONNX Pad, opset 19, mode `constant`).
    Pad {
        /// Top, left, bottom, right, in pixels.
        padding: [usize; 4],
    },
    /// Channels one after the other (ONNX Concat, axis 1).
    Concat,
    /// Shares of 1 over the channels of each pixel: `e^x / sum e^x` (ONNX Softmax, opset 13, axis 1).
    Softmax,
    /// The same values as a vector in `C H W` order (ONNX Flatten, axis 1).
    Flatten,
}

impl Op {
    /// ReLU.
    pub const RELU: Self = Self::Clamp { min: 0.0, max: f32::INFINITY };

    /// The ONNX operator's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "Conv",
            Self::Dense(_) => "Gemm",
            Self::BatchNorm(_) => "BatchNormalization",
            Self::Clamp { min: 0.0, max } if *max == f32::INFINITY => "Relu",
            Self::Clamp { .. } => "Clip",
            Self::Function(function) => function.name(),
            Self::MaxPool(_) => "MaxPool",
            Self::AveragePool(_) => "AveragePool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Pad { .. } => "Pad",
            Self::Concat => "Concat",
            Self::Softmax => "Softmax",
            Self::Flatten => "Flatten",
        }
    }

    /// Trainable parameters: weights, biases, and scale and shift of BatchNorm.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Conv2d(conv) => conv.weight.len() + conv.bias.as_ref().map_or(0, Vec::len),
            Self::Dense(dense) => dense.weight.len() + dense.bias.as_ref().map_or(0, Vec::len),
            Self::BatchNorm(norm) => norm.gamma.len() + norm.beta.len(),
            _ => 0,
        }
    }

    /// Whether the output holds only values of the input, or zeros, so that both share one encoding.
    pub fn keeps_encoding(&self) -> bool {
        matches!(self, Self::MaxPool(_) | Self::Flatten | Self::Pad { .. })
    }

    /// Shape of the output.
    ///
    /// # Errors
    /// Text naming what does not fit, with found and expected.
    pub fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let arity = match self {
            Self::Add | Self::Mul => 2..=2,
            Self::Concat => 1..=usize::MAX,
            _ => 1..=1,
        };
        if !arity.contains(&inputs.len()) {
            return Err(format!("{} reads {} inputs, expected {arity:?}", self.name(), inputs.len()));
        }
        let x = inputs[0];
        let same = |what: &str, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(format!("{what}: found {found}, expected {expected}")) }
        };
        let slide = |window: &Window| match window.output(x.h, x.w) {
            Some([h, w]) if h > 0 && w > 0 => Ok((h, w)),
            _ => Err(format!("the window {window:?} does not fit into an input of {x}")),
        };
        match self {
            Self::Conv2d(conv) => {
                let [r, s] = conv.window.kernel;
                if conv.groups == 0
                    || !x.c.is_multiple_of(conv.groups)
                    || !conv.out_channels.is_multiple_of(conv.groups)
                {
                    return Err(format!(
                        "{} groups do not divide {} input and {} output channels",
                        conv.groups, x.c, conv.out_channels
                    ));
                }
                same("weights", conv.weight.len(), conv.out_channels * (x.c / conv.groups) * r * s)?;
                if let Some(bias) = &conv.bias {
                    same("biases", bias.len(), conv.out_channels)?;
                }
                let (h, w) = slide(&conv.window)?;
                Ok(Shape::new(conv.out_channels, h, w))
            }
            Self::Dense(dense) => {
                same("weights", dense.weight.len(), dense.out_features * x.len())?;
                if let Some(bias) = &dense.bias {
                    same("biases", bias.len(), dense.out_features)?;
                }
                Ok(Shape::vector(dense.out_features))
            }
            Self::BatchNorm(norm) => {
                for (what, values) in
                    [("gamma", &norm.gamma), ("beta", &norm.beta), ("mean", &norm.mean), ("variance", &norm.variance)]
                {
                    same(what, values.len(), x.c)?;
                }
                Ok(x)
            }
            Self::Clamp { .. } | Self::Function(_) | Self::Softmax => Ok(x),
            Self::MaxPool(pool) | Self::AveragePool(pool) => {
                if pool.window.dilation != [1, 1] {
                    return Err(format!("pooling with dilation {:?}, expected 1", pool.window.dilation));
                }
                let [r, s] = pool.window.kernel;
                let [top, left, bottom, right] = pool.window.padding;
                if top.max(bottom) >= r || left.max(right) >= s {
                    return Err(format!("padding {:?} is not smaller than the kernel {r}x{s}", pool.window.padding));
                }
                let (h, w) = slide(&pool.window)?;
                Ok(Shape::new(x.c, h, w))
            }
            Self::GlobalAveragePool => Ok(Shape::vector(x.c)),
            Self::Add => {
                if inputs[1] != x {
                    return Err(format!("Add of {x} and {}: shapes must be equal", inputs[1]));
                }
                Ok(x)
            }
            Self::Mul => {
                if inputs[1] != x && inputs[1] != Shape::vector(x.c) {
                    return Err(format!("Mul of {x} and {}: expected the same shape, or {}x1x1", inputs[1], x.c));
                }
                Ok(x)
            }
            Self::Pad { padding: [top, left, bottom, right] } => {
                let sum = |size: usize, a: usize, b: usize| size.checked_add(a)?.checked_add(b);
                match (sum(x.h, *top, *bottom), sum(x.w, *left, *right)) {
                    (Some(h), Some(w)) => Ok(Shape::new(x.c, h, w)),
                    _ => Err("padding beyond any size".into()),
                }
            }
            Self::Concat => {
                let mut c = 0;
                for shape in inputs {
                    if (shape.h, shape.w) != (x.h, x.w) {
                        return Err(format!("Concat of {x} and {shape}: height and width must be equal"));
                    }
                    c += shape.c;
                }
                Ok(Shape::new(c, x.h, x.w))
            }
            Self::Flatten => Ok(Shape::vector(x.len())),
        }
    }
}
