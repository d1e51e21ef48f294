//! What a network's arguments expand to: layers to run, parameters to fill, and the hypernetwork's graph. Enters: what
//! [`Blueprint::build`] derives from an [`Architecture`](super::Architecture). Leaves: the three lists, linked by index,
//! and counts. Refused when built: arguments that make no network.

use super::{Graph, Primitive};

/// Index of an activation: 0 is the image, layer `i` writes `i + 1`.
pub type ValueId = usize;

/// Images and classes that a network is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of the image in pixels; divisible by every reduction (8 or 4, see [`super::BuildError::Size`]).
    pub size: usize,
    /// Classes.
    pub classes: usize,
}

impl Task {
    /// CIFAR-10: 3x32x32, 10 classes.
    pub const CIFAR10: Self = Self { channels: 3, size: 32, classes: 10 };
}

/// What a layer computes. No convolution has a bias; each linear layer has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerOp {
    /// `max(x, 0)`; never twice on one value.
    Relu,
    /// Convolution; its weight is the layer's parameter.
    Convolution(Convolution),
    /// Normalization by the statistics of the batch (biased variance, epsilon 1e-5), then scale and shift.
    BatchNorm,
    /// 3x3, padding 1.
    MaxPool {
        /// 1 or 2.
        stride: usize,
    },
    /// 3x3, padding 1, padding not counted.
    AveragePool {
        /// 1 or 2.
        stride: usize,
    },
    /// Sum of two values of one shape; they may be one and the same.
    Add,
    /// Channels one after the other.
    Concat,
    /// Zeros: a state of a cell that no branch reaches. Reads nothing; read by [`Self::Concat`] only.
    Zeros,
    /// Mean of each channel.
    GlobalAverage,
    /// `C H W` to a vector.
    Flatten,
    /// Weight and bias are the layer's parameter and the one after it.
    Linear,
    /// Half of the features to zero in training, the rest doubled; identity otherwise.
    Dropout,
}

/// Geometry of a convolution. Channels are those of its parameter's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// On all four sides; keeps the size at stride 1.
    pub padding: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// One group for each channel, instead of one for all.
    pub depthwise: bool,
    /// Reads `x[:, 1:, 1:]`: the second half of a factorized reduction (kernel 1, stride 2).
    pub shifted: bool,
}

/// One step of the computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Unique: `stem.conv0`, `cell2.step1.left.depthwise0`, `head.linear0`.
    pub name: String,
    /// What it computes.
    pub op: LayerOp,
    /// What it reads: the image or earlier layers.
    pub inputs: Vec<ValueId>,
    /// `C H W` of what it writes.
    pub shape: [usize; 3],
    /// First index into [`Blueprint::parameters`].
    pub parameter: Option<usize>,
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Weight of a convolution (`K C/groups R S`) or linear layer (`K C 1 1`).
    Weight,
    /// Bias of a linear layer (`K 1 1 1`).
    Bias,
    /// Scale and shift of BatchNorm: two tensors of `C` values each.
    Norm,
}

/// One parameter: what one node of the graph stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What it is for.
    pub kind: ParameterKind,
    /// As the hypernetwork sees it: `K C/groups R S`, or `C 1 1 1`.
    pub shape: [usize; 4],
    /// The layer that uses it.
    pub layer: usize,
    /// The node of [`Blueprint::graph`] that stands for it.
    pub node: usize,
}

impl Parameter {
    /// Trainable values.
    pub fn len(&self) -> usize {
        let one = self.shape.iter().product::<usize>();
        if self.kind == ParameterKind::Norm { 2 * one } else { one }
    }

    /// Never: every parameter has values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An architecture, spelled out. Holds only what the output depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blueprint {
    /// Images and classes.
    pub task: Task,
    /// In topological order; the last writes the logits.
    pub layers: Vec<Layer>,
    /// In the order of layers.
    pub parameters: Vec<Parameter>,
    /// The hypernetwork's graph.
    pub graph: Graph,
    /// Trainable values, including those of layers that the output does not depend on: what DeepNets-1M counts.
    pub declared_parameters: u64,
}

/// Multiply-accumulates of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// Of ungrouped convolutions.
    pub convolution: u64,
    /// Of depthwise convolutions.
    pub depthwise: u64,
    /// Of linear layers.
    pub linear: u64,
}

impl Macs {
    /// Of all.
    pub const fn total(self) -> u64 {
        self.convolution + self.depthwise + self.linear
    }
}

impl Blueprint {
    /// `C H W` of a value.
    pub fn shape(&self, value: ValueId) -> [usize; 3] {
        match value {
            0 => [self.task.channels, self.task.size, self.task.size],
            layer => self.layers[layer - 1].shape,
        }
    }

    /// Name of each tensor of a parameter: `<layer>.weight`, `.bias`, or `.gamma` and `.beta`.
    pub fn tensor_names(&self, parameter: &Parameter) -> Vec<String> {
        let layer = &self.layers[parameter.layer].name;
        let tensors: &[&str] = match parameter.kind {
            ParameterKind::Weight => &["weight"],
            ParameterKind::Bias => &["bias"],
            ParameterKind::Norm => &["gamma", "beta"],
        };
        tensors.iter().map(|tensor| format!("{layer}.{tensor}")).collect()
    }

    /// Trainable values of the layers that the output depends on.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|p| p.len() as u64).sum()
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> Macs {
        let mut macs = Macs::default();
        for layer in &self.layers {
            let (LayerOp::Convolution(_) | LayerOp::Linear, Some(parameter)) = (layer.op, layer.parameter) else {
                continue;
            };
            let weights = self.parameters[parameter].len() as u64;
            let pixels = (layer.shape[1] * layer.shape[2]) as u64;
            match layer.op {
                LayerOp::Convolution(conv) if conv.depthwise => macs.depthwise += weights * pixels,
                LayerOp::Convolution(_) => macs.convolution += weights * pixels,
                _ => macs.linear += weights,
            }
        }
        macs
    }

    /// Bytes that no plan can do without that runs layers whole and in this order, with one byte for each activation: the
    /// largest sum of values that are alive between two layers.
    ///
    /// Assumes the best of the plan: every layer writes over what it reads last, ReLU, BatchNorm, Dropout and Flatten cost
    /// nothing, a concatenation is its parts side by side, zeros are left out.
    pub fn least_arena_bytes(&self) -> u64 {
        // For each value the values that really lie in memory, and for those the last layer that reads them.
        let mut stored: Vec<Vec<ValueId>> = vec![vec![0]];
        let mut last = vec![0usize; self.layers.len() + 1];
        for (i, layer) in self.layers.iter().enumerate() {
            let parts = match layer.op {
                LayerOp::Relu | LayerOp::BatchNorm | LayerOp::Dropout | LayerOp::Flatten | LayerOp::Concat => {
                    let mut parts: Vec<_> = layer.inputs.iter().flat_map(|&input| stored[input].clone()).collect();
                    parts.sort_unstable();
                    parts.dedup();
                    parts
                }
                LayerOp::Zeros => vec![],
                _ => vec![i + 1],
            };
            for &part in layer.inputs.iter().flat_map(|&input| &stored[input]) {
                last[part] = i;
            }
            stored.push(parts);
        }
        for &part in &stored[self.layers.len()] {
            last[part] = self.layers.len();
        }
        let bytes = |value: ValueId| self.shape(value).iter().product::<usize>() as u64;
        let mut dying: Vec<Vec<ValueId>> = vec![vec![]; self.layers.len() + 1];
        let mut alive = bytes(0);
        let mut most = alive;
        dying[last[0]].push(0);
        for i in 0..self.layers.len() {
            alive -= dying[i].iter().map(|&value| bytes(value)).sum::<u64>();
            if stored[i + 1] == [i + 1] {
                alive += bytes(i + 1);
                dying[last[i + 1]].push(i + 1);
            }
            most = most.max(alive);
        }
        most
    }

    /// Nodes with parameters, as `(node, parameter)`.
    pub fn predicted(&self) -> impl Iterator<Item = (usize, &Parameter)> {
        self.parameters.iter().map(|parameter| (parameter.node, parameter))
    }

    /// Convolutions that BatchNorm follows, and all convolutions: what BatchNorm folding touches.
    pub fn normed_convolutions(&self) -> (usize, usize) {
        let mut normed = vec![false; self.layers.len() + 1];
        for layer in self.layers.iter().filter(|layer| layer.op == LayerOp::BatchNorm) {
            for &input in &layer.inputs {
                normed[input] = true;
                // BatchNorm of a factorized reduction follows the concatenation of its two convolutions.
                if let LayerOp::Concat = self.layers[input - 1].op {
                    self.layers[input - 1].inputs.iter().for_each(|&part| normed[part] = true);
                }
            }
        }
        let is_convolution = |i: &usize| matches!(self.layers[*i].op, LayerOp::Convolution(_));
        let all = (0..self.layers.len()).filter(is_convolution);
        (all.clone().filter(|&i| normed[i + 1]).count(), all.count())
    }

    /// For each value the layers that read it; twice, if they read it twice.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.layers.len() + 1];
        for (i, layer) in self.layers.iter().enumerate() {
            layer.inputs.iter().for_each(|&input| readers[input].push(i));
        }
        readers
    }

    /// For each parameter whether its length is free: multiplied by any positive number it gives the same network, as BatchNorm divides that out
    /// again. So with weights of convolutions that nothing reads but BatchNorm, at once, in a factorized reduction, or behind
    /// another such convolution.
    pub fn free_lengths(&self) -> Vec<bool> {
        let readers = self.readers();
        // Whether a factor of what layer `i` writes is divided out; readers come after what they read.
        let mut divided = vec![false; self.layers.len()];
        let mut free = vec![false; self.parameters.len()];
        for i in (0..self.layers.len()).rev() {
            let [reader] = readers[i + 1][..] else { continue };
            let norm = |i: usize| self.layers[i].op == LayerOp::BatchNorm;
            divided[i] = match self.layers[reader].op {
                LayerOp::BatchNorm => true,
                LayerOp::Convolution(_) => divided[reader],
                // A convolution behind it would weigh this part against the others.
                LayerOp::Concat => matches!(readers[reader + 1][..], [i] if norm(i)),
                _ => false,
            };
            if let (LayerOp::Convolution(_), Some(parameter)) = (self.layers[i].op, self.layers[i].parameter) {
                free[parameter] = divided[i];
            }
        }
        free
    }

    /// How many nodes there are of each primitive, in the order of [`Primitive::ALL`].
    pub fn census(&self) -> Vec<(Primitive, usize)> {
        let count = |p| self.graph.nodes.iter().filter(|node| node.primitive == p).count();
        Primitive::ALL.into_iter().map(|p| (p, count(p))).collect()
    }
}
