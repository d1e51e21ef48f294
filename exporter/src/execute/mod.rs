//! A network, run in floats: what the integers are compared with.
//!
//! *Enters*: a checked [`Network`] and images. *Leaves*: every activation of one image ([`Executor::run`]), or the logits
//! of many ([`Executor::logits`]). *Refused*: networks that lack what the [`Mode`] needs, and pixels that are no whole
//! images.
//!
//! Images are spread over threads, one image is computed by one thread with one order of additions: results do not
//! depend on how many threads there are.

mod batch;
mod convolution;
mod fake;
mod gemm;
mod pool;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::network::{Encoding, Integers, Network, NetworkError, Node, Op, Shape, TensorId};

pub use batch::largest;
use convolution::Convolution;
pub(crate) use convolution::columns;
use fake::Fake;
pub(crate) use gemm::product;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The network as trained, BatchNorm included; encodings are ignored.
    Float,
    /// What the paper simulates: float arithmetic on weights and activations that have gone through their encodings
    /// (`Quantize()` of Eq. 1 to 4, then back). Biases stay in float. Needs BatchNorm folded, and encodings and integers
    /// everywhere.
    Simulated,
    /// The network as it is, halfway: what has an encoding or integers is simulated, the rest is float. For the effect of
    /// one layer's quantization alone.
    Partial,
}

/// Why a network cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Simulation of an activation without scale and zero point.
    #[error("tensor `{tensor}` has no encoding: calibrate the network before simulating it")]
    NoEncoding {
        /// The tensor's name.
        tensor: String,
    },
    /// Simulation of a layer that has not been quantized.
    #[error("node `{node}` has no integer weights: quantize the network before simulating it")]
    NoIntegers {
        /// The node's name.
        node: String,
    },
    /// Simulation with BatchNorm.
    #[error("node `{node}` is a BatchNormalization: fold it before simulating the network")]
    BatchNorm {
        /// The node's name.
        node: String,
    },
    /// Pixels that are no whole images.
    #[error("{found} bytes of pixels are not a whole number of images of {height}x{width}x{channels} bytes")]
    Images {
        /// Bytes given.
        found: usize,
        /// Of the network's input.
        height: usize,
        /// Of the network's input.
        width: usize,
        /// Of the network's input.
        channels: usize,
    },
}

/// A network made ready to run in one mode.
pub struct Executor<'n> {
    network: &'n Network,
    steps: Vec<Step<'n>>,
    /// `C 256`: the input value of each pixel value.
    pixels: Vec<f32>,
    integer_tensors: Vec<TensorId>,
    /// Floats that the largest step needs beside its input and output.
    scratch: usize,
}

/// A node with its parameters as the mode wants them.
struct Step<'n> {
    node: &'n Node,
    kernel: Kernel<'n>,
    /// The encoding that the output goes through.
    fake: Option<Fake>,
}

enum Kernel<'n> {
    Convolution(Convolution<'n>),
    Dense {
        weight: Cow<'n, [f32]>,
        bias: Option<&'n [f32]>,
    },
    /// `(x - mean) * factor + beta` for each channel.
    BatchNorm(Vec<[f32; 3]>),
    /// All others: the op says everything.
    Plain,
}

/// The activations of one image; also what the next image is computed in.
pub struct Workspace {
    tensors: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl Workspace {
    /// A tensor of the image that was run last, `C H W`. In simulation the tensors inside a fused group
    /// ([`Network::fused`]) are as computed and the others have gone through their encodings.
    ///
    /// # Panics
    /// If the network has no such tensor.
    pub fn tensor(&self, id: TensorId) -> &[f32] {
        &self.tensors[id]
    }
}

impl<'n> Executor<'n> {
    /// Checks the network and prepares its parameters.
    ///
    /// # Errors
    /// [`ExecuteError`]: no network, or parts missing that [`Mode::Simulated`] needs.
    pub fn new(network: &'n Network, mode: Mode) -> Result<Self, ExecuteError> {
        network.check()?;
        let integer_tensors = network.integer_tensors();
        let mut fakes: Vec<Option<Fake>> = vec![None; network.tensors.len()];
        if mode == Mode::Simulated {
            for &id in &integer_tensors {
                let tensor = &network.tensors[id];
                let missing = || ExecuteError::NoEncoding { tensor: tensor.name.clone() };
                fakes[id] = Some(Fake::new(tensor.encoding.as_ref().ok_or_else(missing)?));
            }
        }
        if mode == Mode::Partial {
            fakes = network.tensors.iter().map(|tensor| tensor.encoding.as_ref().map(Fake::new)).collect();
        }
        let mut scratch = 0;
        let mut steps = Vec::with_capacity(network.nodes.len());
        for node in &network.nodes {
            let shape = |id: TensorId| network.tensors[id].shape;
            let kernel = match &node.op {
                Op::Conv2d(conv) => {
                    let weight = weights(node, &conv.weight, conv.integers.as_ref(), conv.out_channels, mode)?;
                    let convolution = Convolution::new(conv, weight, shape(node.inputs[0]), shape(node.output));
                    scratch = scratch.max(convolution.scratch());
                    Kernel::Convolution(convolution)
                }
                Op::Dense(dense) => Kernel::Dense {
                    weight: weights(node, &dense.weight, dense.integers.as_ref(), dense.out_features, mode)?,
                    bias: dense.bias.as_deref(),
                },
                Op::BatchNorm(_) if mode == Mode::Simulated => {
                    return Err(ExecuteError::BatchNorm { node: node.name.clone() });
                }
                Op::BatchNorm(norm) => Kernel::BatchNorm(
                    (0..norm.gamma.len())
                        .map(|c| [norm.mean[c], norm.gamma[c] / (norm.variance[c] + norm.epsilon).sqrt(), norm.beta[c]])
                        .collect(),
                ),
                _ => Kernel::Plain,
            };
            steps.push(Step { node, kernel, fake: fakes[node.output] });
        }
        let input = fakes[network.input];
        let value = |c, pixel| {
            let value = network.preprocessing.value(c, pixel);
            input.map_or(value, |fake| fake.apply(value))
        };
        let channels = 0..network.tensors[network.input].shape.c;
        let pixels = channels.flat_map(|c| (0..=255).map(move |pixel| (c, pixel))).map(|(c, p)| value(c, p)).collect();
        Ok(Self { network, steps, pixels, integer_tensors, scratch })
    }

    /// The network that is run.
    pub fn network(&self) -> &'n Network {
        self.network
    }

    /// Tensors that exist in integers, see [`Network::integer_tensors`].
    pub fn integer_tensors(&self) -> &[TensorId] {
        &self.integer_tensors
    }

    /// Room for one image.
    pub fn workspace(&self) -> Workspace {
        let tensors = self.network.tensors.iter().map(|tensor| vec![0.0; tensor.shape.len()]).collect();
        Workspace { tensors, scratch: vec![0.0; self.scratch] }
    }

    /// Runs one image of `H W C` bytes and returns the logits; [`Workspace::tensor`] then has every activation.
    ///
    /// # Errors
    /// [`ExecuteError::Images`] if the bytes are not one image.
    ///
    /// # Panics
    /// If the workspace is another network's.
    pub fn run<'w>(&self, image: &[u8], workspace: &'w mut Workspace) -> Result<&'w [f32], ExecuteError> {
        let input = &mut workspace.tensors[self.network.input];
        if image.len() != input.len() {
            return Err(self.wrong_size(image.len()));
        }
        let channels = self.shape(self.network.input).c;
        for (c, plane) in input.chunks_exact_mut(image.len() / channels).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(image.chunks_exact(channels)) {
                *value = self.pixels[c * 256 + usize::from(pixel[c])];
            }
        }
        for step in &self.steps {
            step.run(self.network, workspace);
        }
        Ok(workspace.tensor(self.network.output))
    }

    fn shape(&self, id: TensorId) -> Shape {
        self.network.tensors[id].shape
    }

    fn wrong_size(&self, found: usize) -> ExecuteError {
        let Shape { c, h, w } = self.shape(self.network.input);
        ExecuteError::Images { found, height: h, width: w, channels: c }
    }
}

impl Step<'_> {
    fn run(&self, network: &Network, workspace: &mut Workspace) {
        // Taken out, so that the inputs can be read while it is written.
        let mut output = std::mem::take(&mut workspace.tensors[self.node.output]);
        let input = |i: usize| workspace.tensors[self.node.inputs[i]].as_slice();
        let shape = network.tensors[self.node.inputs[0]].shape;
        let x = input(0);
        match (&self.kernel, &self.node.op) {
            (Kernel::Convolution(convolution), _) => convolution.run(x, &mut output, &mut workspace.scratch),
            (Kernel::Dense { weight, bias }, _) => {
                match bias {
                    Some(bias) => output.copy_from_slice(bias),
                    None => output.fill(0.0),
                }
                gemm::accumulate(weight, x, &mut output, [x.len(), 1]);
            }
            (Kernel::BatchNorm(channels), _) => {
                let planes = output.chunks_exact_mut(shape.pixels()).zip(x.chunks_exact(shape.pixels()));
                for ((to, from), [mean, factor, beta]) in planes.zip(channels) {
                    to.iter_mut().zip(from).for_each(|(y, x)| *y = (x - mean) * factor + beta);
                }
            }
            (_, Op::Clamp { min, max }) => output.iter_mut().zip(x).for_each(|(y, x)| *y = x.clamp(*min, *max)),
            (_, Op::Function(function)) => output.iter_mut().zip(x).for_each(|(y, x)| *y = function.apply(*x)),
            (_, Op::MaxPool(p)) => pool::maximum(&p.window, x, shape, &mut output),
            (_, Op::AveragePool(p)) => pool::mean(&p.window, x, shape, &mut output),
            (_, Op::GlobalAveragePool) => pool::global_mean(x, shape, &mut output),
            (_, Op::Add) => output.iter_mut().zip(x.iter().zip(input(1))).for_each(|(y, (a, b))| *y = a + b),
            (_, Op::Mul) => {
                let gate = input(1);
                // A vector has one factor for each channel of the image.
                let run = x.len() / gate.len();
                let products = output.chunks_exact_mut(run).zip(x.chunks_exact(run)).zip(gate);
                products.for_each(|((y, x), factor)| y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor));
            }
            (_, Op::Pad { padding }) => pad(*padding, x, shape, &mut output),
            (_, Op::Concat) => {
                let mut rest = output.as_mut_slice();
                for i in 0..self.node.inputs.len() {
                    let (part, after) = rest.split_at_mut(input(i).len());
                    part.copy_from_slice(input(i));
                    rest = after;
                }
            }
            (_, Op::Softmax) => softmax(x, shape, &mut output),
            (_, Op::Flatten) => output.copy_from_slice(x),
            (Kernel::Plain, Op::Conv2d(_) | Op::Dense(_) | Op::BatchNorm(_)) => {
                unreachable!("these have a kernel of their own")
            }
        }
        if let Some(fake) = self.fake {
            fake.apply_all(&mut output);
        }
        workspace.tensors[self.node.output] = output;
    }
}

/// Shares over the channels of each pixel.
fn softmax(x: &[f32], shape: Shape, y: &mut [f32]) {
    for pixel in 0..shape.pixels() {
        let channels = || (pixel..x.len()).step_by(shape.pixels());
        let largest = channels().map(|i| x[i]).fold(f32::NEG_INFINITY, f32::max);
        let power = |i: usize| f64::from(x[i] - largest).exp();
        let sum: f64 = channels().map(power).sum();
        channels().for_each(|i| y[i] = (power(i) / sum) as f32);
    }
}

/// `C H W` with zeros around height and width.
fn pad([top, left, bottom, right]: [usize; 4], x: &[f32], shape: Shape, y: &mut [f32]) {
    let (height, width) = (top + shape.h + bottom, left + shape.w + right);
    y.fill(0.0);
    for (y, x) in y.chunks_exact_mut(height * width).zip(x.chunks_exact(shape.pixels())) {
        let rows = y.chunks_exact_mut(width).skip(top);
        rows.zip(x.chunks_exact(shape.w)).for_each(|(y, x)| y[left..][..shape.w].copy_from_slice(x));
    }
}

/// The layer's float weights, or in simulation the values that its integers stand for.
fn weights<'n>(
    node: &Node,
    float: &'n [f32],
    integers: Option<&Integers>,
    out_channels: usize,
    mode: Mode,
) -> Result<Cow<'n, [f32]>, ExecuteError> {
    match (mode, integers) {
        (Mode::Float, _) | (Mode::Partial, None) => Ok(Cow::Borrowed(float)),
        (Mode::Simulated, None) => Err(ExecuteError::NoIntegers { node: node.name.clone() }),
        (Mode::Simulated | Mode::Partial, Some(integers)) => {
            Ok(Cow::Owned(dequantize(&integers.encoding, &integers.weight, out_channels)))
        }
    }
}

fn dequantize(encoding: &Encoding, weight: &[i16], out_channels: usize) -> Vec<f32> {
    let row = weight.len() / out_channels;
    weight.iter().enumerate().map(|(i, &w)| encoding.dequantize(i / row, i32::from(w))).collect()
}
