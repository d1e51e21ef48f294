//! Networks for tests. Enters: a seed. Leaves: a network with every op, in shapes and with values that a person would not
//! have thought of, images for it, and the plain meaning of each op in f64.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::network::{
    BatchNorm, Conv2d, Dense, Function, Network, Node, Op, Pool, Preprocessing, Shape, TensorId, Window,
};

/// Draws.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// In `0..n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    pub(crate) fn values(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }
}

/// How random networks are made.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) batch_norm: bool,
    /// Blocks between input and classifier.
    pub(crate) blocks: usize,
}

/// A convolution with weights of a usual size.
pub(crate) fn conv(random: &mut Random, x: Shape, out_channels: usize, groups: usize, window: Window) -> Op {
    let taps = x.c / groups * window.kernel[0] * window.kernel[1];
    let most = (3.0 / taps as f32).sqrt();
    let bias = (random.below(2) == 0).then(|| random.values(out_channels, -0.3, 0.3));
    let weight = random.values(out_channels * taps, -most, most);
    Op::Conv2d(Conv2d { weight, bias, out_channels, window, groups, integers: None })
}

pub(crate) fn dense(random: &mut Random, x: Shape, out_features: usize) -> Op {
    let most = (3.0 / x.len() as f32).sqrt();
    let weight = random.values(out_features * x.len(), -most, most);
    Op::Dense(Dense { weight, bias: Some(random.values(out_features, -0.3, 0.3)), out_features, integers: None })
}

pub(crate) fn batch_norm(random: &mut Random, channels: usize) -> Op {
    Op::BatchNorm(BatchNorm {
        gamma: random.values(channels, -1.5, 1.5),
        beta: random.values(channels, -0.5, 0.5),
        mean: random.values(channels, -0.5, 0.5),
        variance: random.values(channels, 0.05, 2.0),
        epsilon: 1e-5,
    })
}

struct Builder {
    random: Random,
    network: Network,
    batch_norm: bool,
    /// Of the kinds of blocks, how many may come up.
    kinds: usize,
}

impl Builder {
    fn shape(&self, id: TensorId) -> Shape {
        self.network.tensors[id].shape
    }

    fn push(&mut self, op: Op, inputs: &[TensorId]) -> TensorId {
        let name = format!("{}_{}", op.name(), self.network.nodes.len());
        self.network.push(name, op, inputs).unwrap()
    }

    /// BatchNorm or none, then a clamp or none.
    fn finish(&mut self, id: TensorId) -> TensorId {
        let mut id = id;
        if self.batch_norm && self.random.below(3) > 0 {
            let channels = self.shape(id).c;
            let norm = batch_norm(&mut self.random, channels);
            id = self.push(norm, &[id]);
        }
        match self.random.below(5) {
            0 | 1 => self.push(Op::RELU, &[id]),
            2 => self.push(Op::Clamp { min: 0.0, max: 6.0 }, &[id]),
            3 => self.push(Op::Clamp { min: -0.37, max: 0.81 }, &[id]),
            _ => id,
        }
    }

    /// An activation function.
    fn function(&mut self, x: TensorId) -> TensorId {
        let function = self.random.pick(&[
            Function::LeakyRelu { alpha: 0.1 },
            Function::LeakyRelu { alpha: -0.3 },
            Function::HardSwish,
            Function::Silu,
            Function::Sigmoid,
            Function::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
            Function::Tanh,
        ]);
        self.push(Op::Function(function), &[x])
    }

    fn conv(&mut self, x: TensorId, out_channels: usize, groups: usize, window: Window) -> TensorId {
        let shape = self.shape(x);
        let op = conv(&mut self.random, shape, out_channels, groups, window);
        let id = self.push(op, &[x]);
        self.finish(id)
    }

    /// A window that keeps height and width.
    fn same(&mut self) -> Window {
        let (r, s) = (self.random.pick(&[1, 3]), self.random.pick(&[1, 3, 5]));
        let padding = [r / 2, s / 2, r / 2, s / 2];
        Window { kernel: [r, s], padding, ..Window::square(1, 1, 0) }
    }

    /// A window that need not be square, even or centred.
    fn odd(&mut self, shape: Shape) -> Window {
        let random = &mut self.random;
        for _ in 0..20 {
            let window = Window {
                kernel: [1 + random.below(4), 1 + random.below(4)],
                stride: [1 + random.below(3), 1 + random.below(2)],
                padding: [random.below(3), random.below(3), random.below(3), random.below(3)],
                dilation: [1 + random.below(2), 1 + random.below(3)],
            };
            if window.output(shape.h, shape.w).is_some() {
                return window;
            }
        }
        Window::square(1, 1, 0)
    }

    fn block(&mut self, x: TensorId) -> TensorId {
        let shape = self.shape(x);
        let channels = self.random.pick(&[1, 2, 4, 5, 8, 12]);
        match self.random.below(self.kinds) {
            0 => {
                let window = self.odd(shape);
                self.conv(x, channels, 1, window)
            }
            1 => {
                let window = self.odd(shape);
                self.conv(x, shape.c, shape.c, window)
            }
            2 => {
                let groups = (2..=shape.c).find(|g| shape.c.is_multiple_of(*g)).unwrap_or(1);
                let window = self.same();
                self.conv(x, groups * 2, groups, window)
            }
            3 => {
                let window = self.same();
                let y = self.conv(x, shape.c, 1, window);
                let sum = self.push(Op::Add, &[x, y]);
                if self.random.below(2) == 0 { self.push(Op::RELU, &[sum]) } else { sum }
            }
            4 => {
                let window = self.same();
                let (a, b) = (self.conv(x, channels, 1, window), self.conv(x, 3, 1, Window::square(1, 1, 0)));
                self.push(Op::Concat, &[a, x, b])
            }
            kind @ (5 | 6) => {
                let mut window = self.odd(shape);
                window.dilation = [1, 1];
                let [r, s] = window.kernel;
                let [top, left, bottom, right] = window.padding;
                window.padding = [top.min(r - 1), left.min(s - 1), bottom.min(r - 1), right.min(s - 1)];
                if window.output(shape.h, shape.w).is_none() {
                    return x;
                }
                let pool = Pool { window };
                if kind == 5 { self.push(Op::MaxPool(pool), &[x]) } else { self.push(Op::AveragePool(pool), &[x]) }
            }
            7 => self.push(Op::Clamp { min: -0.2, max: 0.9 }, &[x]),
            9 => {
                let window = self.odd(shape);
                let y = self.conv(x, channels, 1, window);
                self.function(y)
            }
            10 => {
                // Squeeze and excite.
                let window = self.same();
                let y = self.conv(x, channels, 1, window);
                let mean = self.push(Op::GlobalAveragePool, &[y]);
                let point = Window::square(1, 1, 0);
                let narrow = self.conv(mean, 2, 1, point);
                let wide = self.conv(narrow, channels, 1, point);
                let gate = self.random.pick(&[Function::Sigmoid, Function::HardSigmoid { alpha: 0.2, beta: 0.5 }]);
                let gate = self.push(Op::Function(gate), &[wide]);
                self.push(Op::Mul, &[y, gate])
            }
            11 => {
                let window = self.same();
                let y = self.conv(x, shape.c, 1, window);
                let product = self.push(Op::Mul, &[x, y]);
                if self.random.below(2) == 0 { self.push(Op::RELU, &[product]) } else { product }
            }
            12 => {
                let padding = [self.random.below(3), self.random.below(3), 1 + self.random.below(2), 0];
                let padded = self.push(Op::Pad { padding }, &[x]);
                let pool = Pool { window: Window::square(2, 1, 0) };
                let one = self.shape(padded).w == 1;
                let average = self.random.below(2) == 0;
                match (one, average) {
                    (true, _) => padded,
                    (_, true) => self.push(Op::AveragePool(pool), &[padded]),
                    _ => self.push(Op::MaxPool(pool), &[padded]),
                }
            }
            13 => {
                let y = self.function(x);
                self.push(Op::Concat, &[x, y])
            }
            _ => {
                let groups = shape.c;
                let window = self.same();
                let y = self.conv(x, shape.c, groups, window);
                self.conv(y, channels, 1, Window::square(1, 1, 0))
            }
        }
    }
}

/// A random network that ends in a classifier of 7 classes, of the ops that networks trained here are made of.
pub(crate) fn network(seed: u64, sample: Sample) -> Network {
    drawn(seed, sample, 9)
}

/// The same of all ops that a file from elsewhere may bring.
pub(crate) fn foreign(seed: u64, sample: Sample) -> Network {
    drawn(seed, sample, 14)
}

fn drawn(seed: u64, sample: Sample, kinds: usize) -> Network {
    let mut random = Random::new(seed);
    let shape = Shape::new(random.pick(&[1, 3]), 6 + random.below(8), 6 + random.below(8));
    let preprocessing = Preprocessing { mean: random.values(shape.c, 0.3, 0.6), std: random.values(shape.c, 0.2, 0.3) };
    let network = Network::new(format!("sample-{seed}"), shape, preprocessing, Vec::new());
    let mut builder = Builder { random, network, batch_norm: sample.batch_norm, kinds };
    let mut x = 0;
    for _ in 0..sample.blocks {
        x = builder.block(x);
    }
    x = match builder.random.below(4) {
        0 => builder.push(Op::GlobalAveragePool, &[x]),
        1 => builder.push(Op::Flatten, &[x]),
        2 => {
            let flat = builder.push(Op::Flatten, &[x]);
            if kinds > 9 { builder.function(flat) } else { builder.push(Op::RELU, &[flat]) }
        }
        _ => x,
    };
    let shape = builder.shape(x);
    let classifier = dense(&mut builder.random, shape, 7);
    builder.push(classifier, &[x]);
    builder.network.check().unwrap();
    builder.network
}

/// `N H W C` bytes of noise over a gradient.
pub(crate) fn images(network: &Network, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x1234_5678);
    let size = network.tensors[network.input].shape.len();
    (0..count * size).map(|i| (i % size * 128 / size + random.below(128)) as u8).collect()
}

/// The taps of a window at one output that lie inside the image: kernel row and column, image row and column.
pub(crate) fn taps(window: &Window, shape: Shape, [oy, ox]: [usize; 2]) -> Vec<[usize; 4]> {
    let [kernel_h, kernel_w] = window.kernel;
    let place = |out: usize, axis: usize, tap: usize| {
        (out * window.stride[axis] + tap * window.dilation[axis]).wrapping_sub(window.padding[axis])
    };
    (0..kernel_h)
        .flat_map(|r| (0..kernel_w).map(move |s| [r, s, place(oy, 0, r), place(ox, 1, s)]))
        .filter(|&[_, _, y, x]| y < shape.h && x < shape.w)
        .collect()
}

/// Every output position of a window over an image, as `[oy, ox]`.
pub(crate) fn positions(window: &Window, shape: Shape) -> impl Iterator<Item = [usize; 2]> {
    let [h, w] = window.output(shape.h, shape.w).unwrap();
    (0..h).flat_map(move |oy| (0..w).map(move |ox| [oy, ox]))
}

/// What a node computes, by the definition of its op, in f64. `weight` stands for the float weights of the op.
pub(crate) fn reference(network: &Network, node: &Node, weight: Option<&[f64]>, inputs: &[&[f32]]) -> Vec<f64> {
    let shape = network.tensors[node.inputs[0]].shape;
    let x: Vec<f64> = inputs[0].iter().map(|&x| f64::from(x)).collect();
    let at = |c: usize, y: usize, column: usize| x[(c * shape.h + y) * shape.w + column];
    let each_channel = || 0..shape.c;
    match &node.op {
        Op::Conv2d(conv) => {
            let weight = weight.unwrap();
            let group_c = shape.c / conv.groups;
            let group_k = conv.out_channels / conv.groups;
            let [kernel_h, kernel_w] = conv.window.kernel;
            let output = |k: usize, to: [usize; 2]| {
                let products = taps(&conv.window, shape, to).into_iter().flat_map(|[r, s, y, column]| {
                    (0..group_c).map(move |c| (((k * group_c + c) * kernel_h + r) * kernel_w + s, c, y, column))
                });
                conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias[k]))
                    + products
                        .map(|(w, c, y, column)| weight[w] * at(k / group_k * group_c + c, y, column))
                        .sum::<f64>()
            };
            (0..conv.out_channels)
                .flat_map(|k| positions(&conv.window, shape).map(move |to| (k, to)))
                .map(|(k, to)| output(k, to))
                .collect()
        }
        Op::Dense(dense) => weight
            .unwrap()
            .chunks_exact(x.len())
            .enumerate()
            .map(|(k, row)| {
                let bias = dense.bias.as_ref().map_or(0.0, |bias| f64::from(bias[k]));
                bias + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>()
            })
            .collect(),
        Op::BatchNorm(norm) => {
            let value = |(i, x): (usize, &f64)| {
                let c = i / shape.pixels();
                let [gamma, beta, mean, variance] =
                    [&norm.gamma, &norm.beta, &norm.mean, &norm.variance].map(|values| f64::from(values[c]));
                gamma * (x - mean) / (variance + f64::from(norm.epsilon)).sqrt() + beta
            };
            x.iter().enumerate().map(value).collect()
        }
        Op::Clamp { min, max } => x.iter().map(|x| x.clamp(f64::from(*min), f64::from(*max))).collect(),
        Op::MaxPool(Pool { window }) | Op::AveragePool(Pool { window }) => each_channel()
            .flat_map(|c| positions(window, shape).map(move |to| (c, to)))
            .map(|(c, to)| {
                let values: Vec<f64> =
                    taps(window, shape, to).into_iter().map(|[_, _, y, column]| at(c, y, column)).collect();
                match node.op {
                    Op::MaxPool(_) => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                    _ => values.iter().sum::<f64>() / values.len() as f64,
                }
            })
            .collect(),
        Op::GlobalAveragePool => {
            x.chunks_exact(shape.pixels()).map(|plane| plane.iter().sum::<f64>() / shape.pixels() as f64).collect()
        }
        Op::Add => x.iter().zip(inputs[1]).map(|(a, b)| a + f64::from(*b)).collect(),
        Op::Function(function) => x.iter().map(|&x| f64::from(function.apply(x as f32))).collect(),
        Op::Mul => {
            let run = x.len() / inputs[1].len();
            x.iter().enumerate().map(|(i, x)| x * f64::from(inputs[1][i / run])).collect()
        }
        Op::Pad { padding: [top, left, bottom, right] } => {
            let (h, w) = (top + shape.h + bottom, left + shape.w + right);
            let value = |c: usize, y: usize, column: usize| {
                let (y, column) = (y.wrapping_sub(*top), column.wrapping_sub(*left));
                if y < shape.h && column < shape.w { at(c, y, column) } else { 0.0 }
            };
            each_channel().flat_map(|c| (0..h * w).map(move |i| (c, i))).map(|(c, i)| value(c, i / w, i % w)).collect()
        }
        Op::Softmax => {
            let pixel = |i: usize| x.iter().skip(i % shape.pixels()).step_by(shape.pixels());
            let sum = |i: usize| pixel(i).map(|v| v.exp()).sum::<f64>();
            x.iter().enumerate().map(|(i, v)| v.exp() / sum(i)).collect()
        }
        Op::Concat => inputs.iter().flat_map(|x| x.iter().map(|&x| f64::from(x))).collect(),
        Op::Flatten => x,
    }
}
