//! From arguments to layers, parameters and graph in one pass. Enters: an [`Architecture`] and a [`Task`]. Leaves: a
//! [`Blueprint`]. Refused: arguments out of range, images whose size cannot be halved often enough, networks whose output
//! does not depend on the image.
//!
//! Layers follow DARTS as DeepNets-1M runs it. The graph is what tracing the network would give: ReLU, identity, dropout
//! and reshaping are no nodes; a sum or concatenation is one only if its inputs come from different nodes; what the output
//! does not depend on is deleted.

use super::architecture::{Architecture, ArchitectureError, CellOp, Stem, Step};
use super::blueprint::{Blueprint, Convolution, Layer, LayerOp, Parameter, ParameterKind, Task, ValueId};
use super::nodes::{Graph, Node};
use super::primitive::Primitive;

/// Why arguments make no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// An argument is out of range.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// Images or classes that nothing can be built for.
    #[error("{0:?}: expected extents and classes from 1 to {max}", max = u16::MAX)]
    Task(Task),
    /// Height and width cannot be halved as often as the network does.
    #[error("image of {size}x{size}: found a size that is not divisible by {divisor}, expected one that is")]
    Size {
        /// Height and width of the image.
        size: usize,
        /// Product of all strides.
        divisor: usize,
    },
    /// No path leads from the image to the last cell's output.
    #[error("the output does not depend on the image: every path ends in `none`")]
    Disconnected,
}

impl Blueprint {
    /// Spells out `architecture`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(architecture: &Architecture, task: Task) -> Result<Self, BuildError> {
        architecture.check()?;
        if ![task.channels, task.size, task.classes].iter().all(|n| (1..=usize::from(u16::MAX)).contains(n)) {
            return Err(BuildError::Task(task));
        }
        let early = !matches!(architecture.stem, Stem::Simple { pool: false });
        let reductions = (0..architecture.cells).filter(|&i| architecture.reduces(i)).count() + usize::from(early);
        let divisor = 1 << reductions;
        if !task.size.is_multiple_of(divisor) {
            return Err(BuildError::Size { size: task.size, divisor });
        }
        let mut builder = Builder::new(task, architecture.batch_norm);
        let features = builder.features(architecture).ok_or(BuildError::Disconnected)?;
        builder.head(architecture, features);
        Ok(builder.finish())
    }
}

/// An activation while building: what writes it, the node it comes from in the graph, its `C H W`.
#[derive(Clone, Copy)]
struct Value {
    id: ValueId,
    node: usize,
    shape: [usize; 3],
}

struct Builder {
    task: Task,
    batch_norm: bool,
    layers: Vec<Layer>,
    parameters: Vec<Parameter>,
    nodes: Vec<Node>,
    edges: Vec<(u32, u32)>,
    /// The ReLU of each value, once there is one: all readers share it.
    relu_of: Vec<Option<Value>>,
    declared: u64,
}

impl Builder {
    fn new(task: Task, batch_norm: bool) -> Self {
        let input = Node { primitive: Primitive::Input, shape: None, parameter: None, classifier: false };
        Self {
            task,
            batch_norm,
            layers: Vec::new(),
            parameters: Vec::new(),
            nodes: vec![input],
            edges: Vec::new(),
            relu_of: vec![None],
            declared: 0,
        }
    }

    /// Stem and cells. Values are absent where no branch leads.
    fn features(&mut self, a: &Architecture) -> Option<Value> {
        let image = Value { id: 0, node: 0, shape: [self.task.channels, self.task.size, self.task.size] };
        let width = usize::from(a.width);
        let kernel = usize::from(a.stem_kernel);
        let (mut older, mut newer, mut older_channels, mut newer_channels);
        match a.stem {
            Stem::Simple { pool } => {
                let channels = 3 * width;
                let mut x = self.conv_norm("stem.", Some(image), image.shape[0], channels, kernel, 1);
                if pool {
                    x = self.pool("stem.pool", x, Primitive::MaxPool, 2);
                }
                (older, newer, older_channels, newer_channels) = (x, x, channels, channels);
            }
            Stem::Strided => {
                let x = self.conv_norm("stem.0.", Some(image), image.shape[0], width / 2, kernel, 1);
                let x = self.relu_conv_norm("stem.1.", x, width / 2, width, 3, 1);
                let y = self.relu_conv_norm("stem.2.", x, width, width, 3, 2);
                (older, newer, older_channels, newer_channels) = (x, y, width, width);
            }
        }
        let mut after_reduction = a.stem == Stem::Strided;
        let mut channels = width;
        for i in 0..a.cells {
            let reduces = a.reduces(i);
            if reduces {
                channels *= usize::from(a.widening);
            }
            let cell = format!("cell{i}");
            let input0 = format!("{cell}.input0.");
            let first = if after_reduction {
                self.factorized_reduction(&input0, older, older_channels, channels)
            } else {
                self.relu_conv_norm(&input0, older, older_channels, channels, 1, 1)
            };
            let second = self.relu_conv_norm(&format!("{cell}.input1."), newer, newer_channels, channels, 1, 1);
            let steps = if reduces { &a.reduction } else { &a.normal };
            let output = self.cell(&cell, [first, second], steps, &a.concat, channels, reduces);
            let states = a.concat.iter().filter(|&&taken| taken).count();
            (older, older_channels) = (newer, newer_channels);
            (newer, newer_channels) = (output, states * channels);
            after_reduction = reduces;
        }
        newer
    }

    fn cell(
        &mut self,
        name: &str,
        inputs: [Option<Value>; 2],
        steps: &[Step],
        concat: &[bool],
        channels: usize,
        reduces: bool,
    ) -> Option<Value> {
        let mut states = inputs.to_vec();
        for (k, step) in steps.iter().enumerate() {
            let mut branch = |(op, input): (CellOp, u8), side: &str| {
                let stride = if reduces && input < 2 { 2 } else { 1 };
                self.op(&format!("{name}.step{k}.{side}."), op, states[usize::from(input)], channels, stride)
            };
            let left = branch(step.branches[0], "left");
            let right = branch(step.branches[1], "right");
            states.push(match (left, right) {
                (Some(left), Some(right)) => Some(self.add(format!("{name}.step{k}.sum"), left, right)),
                (one, other) => one.or(other),
            });
        }
        let taken: Vec<_> =
            concat.iter().zip(&states[2..]).filter(|(taken, _)| **taken).map(|(_, state)| *state).collect();
        self.concat(name, &taken)
    }

    fn op(&mut self, name: &str, op: CellOp, x: Option<Value>, channels: usize, stride: usize) -> Option<Value> {
        match op {
            CellOp::None => None,
            CellOp::MaxPool => self.pool(&format!("{name}pool"), x, Primitive::MaxPool, stride),
            CellOp::AveragePool => self.pool(&format!("{name}pool"), x, Primitive::AveragePool, stride),
            CellOp::Skip if stride == 1 => x,
            CellOp::Skip => self.factorized_reduction(name, x, channels, channels),
            CellOp::Separable3 => self.separable(name, x, channels, 3, stride),
            CellOp::Separable5 => self.separable(name, x, channels, 5, stride),
            CellOp::Separable7 => self.separable(name, x, channels, 7, stride),
            CellOp::Dilated3 => self.depthwise_pointwise(name, x, channels, 3, stride, 2),
            CellOp::Dilated5 => self.depthwise_pointwise(name, x, channels, 5, stride, 2),
            CellOp::Dilated7 => self.depthwise_pointwise(name, x, channels, 7, stride, 2),
            CellOp::Convolution1 => self.relu_conv_norm(name, x, channels, channels, 1, stride),
            CellOp::Convolution3 => self.relu_conv_norm(name, x, channels, channels, 3, stride),
            CellOp::Convolution5 => self.relu_conv_norm(name, x, channels, channels, 5, stride),
            CellOp::Convolution7 => self.relu_conv_norm(name, x, channels, channels, 7, stride),
        }
    }

    fn separable(
        &mut self,
        name: &str,
        x: Option<Value>,
        channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Option<Value> {
        let x = self.depthwise_pointwise(&format!("{name}0."), x, channels, kernel, stride, 1);
        self.depthwise_pointwise(&format!("{name}1."), x, channels, kernel, 1, 1)
    }

    fn depthwise_pointwise(
        &mut self,
        name: &str,
        x: Option<Value>,
        channels: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
    ) -> Option<Value> {
        let x = x.map(|x| self.relu(x));
        let padding = dilation * (kernel / 2);
        let conv = Convolution { kernel, stride, padding, dilation, depthwise: true, shifted: false };
        let x = self.conv(format!("{name}depthwise"), x, channels, channels, conv);
        let x = self.conv(format!("{name}pointwise"), x, channels, channels, Convolution::square(1, 1));
        self.norm(format!("{name}norm"), x, channels)
    }

    fn relu_conv_norm(
        &mut self,
        name: &str,
        x: Option<Value>,
        c_in: usize,
        c_out: usize,
        kernel: usize,
        stride: usize,
    ) -> Option<Value> {
        let x = x.map(|x| self.relu(x));
        self.conv_norm(name, x, c_in, c_out, kernel, stride)
    }

    fn conv_norm(
        &mut self,
        name: &str,
        x: Option<Value>,
        c_in: usize,
        c_out: usize,
        kernel: usize,
        stride: usize,
    ) -> Option<Value> {
        let x = self.conv(format!("{name}conv"), x, c_in, c_out, Convolution::square(kernel, stride));
        self.norm(format!("{name}norm"), x, c_out)
    }

    fn factorized_reduction(&mut self, name: &str, x: Option<Value>, c_in: usize, c_out: usize) -> Option<Value> {
        let x = x.map(|x| self.relu(x));
        let even = Convolution::square(1, 2);
        let odd = Convolution { shifted: true, ..even };
        let even = self.conv(format!("{name}even"), x, c_in, c_out / 2, even);
        let odd = self.conv(format!("{name}odd"), x, c_in, c_out / 2, odd);
        let both = if x.is_some() { self.concat(name.trim_end_matches('.'), &[even, odd]) } else { None };
        self.norm(format!("{name}norm"), both, c_out)
    }

    /// Counts the weights even where no branch leads: the layer exists, it is only never run.
    fn conv(&mut self, name: String, x: Option<Value>, c_in: usize, c_out: usize, conv: Convolution) -> Option<Value> {
        let shape = [c_out, if conv.depthwise { 1 } else { c_in }, conv.kernel, conv.kernel];
        self.declared += shape.iter().product::<usize>() as u64;
        let x = x?;
        let primitive = match (conv.depthwise, conv.dilation) {
            (false, _) => Primitive::Conv,
            (true, 1) => Primitive::SepConv,
            (true, _) => Primitive::DilConv,
        };
        let [_, h, w] = x.shape;
        let node = self.parameter(ParameterKind::Weight, primitive, shape, &[x.node], false);
        let shape = [c_out, h / conv.stride, w / conv.stride];
        Some(self.layer(name, LayerOp::Convolution(conv), &[x], shape, node, true))
    }

    fn norm(&mut self, name: String, x: Option<Value>, channels: usize) -> Option<Value> {
        if !self.batch_norm {
            return x;
        }
        self.declared += 2 * channels as u64;
        let x = x?;
        let node = self.parameter(ParameterKind::Norm, Primitive::BatchNorm, [channels, 1, 1, 1], &[x.node], false);
        Some(self.layer(name, LayerOp::BatchNorm, &[x], x.shape, node, true))
    }

    fn pool(&mut self, name: &str, x: Option<Value>, primitive: Primitive, stride: usize) -> Option<Value> {
        let x = x?;
        let [c, h, w] = x.shape;
        let node = self.node(primitive, Some([1, 1, 3, 3]), &[x.node]);
        let op = match primitive {
            Primitive::MaxPool => LayerOp::MaxPool { stride },
            _ => LayerOp::AveragePool { stride },
        };
        Some(self.layer(name.into(), op, &[x], [c, h / stride, w / stride], node, false))
    }

    fn relu(&mut self, x: Value) -> Value {
        if let Some(relu) = self.relu_of[x.id] {
            return relu;
        }
        let name = format!("{}.relu", if x.id == 0 { "image" } else { &self.layers[x.id - 1].name });
        let relu = self.layer(name, LayerOp::Relu, &[x], x.shape, x.node, false);
        self.relu_of[x.id] = Some(relu);
        relu
    }

    fn add(&mut self, name: String, left: Value, right: Value) -> Value {
        let node = self.join(Primitive::Sum, &[left, right]);
        self.layer(name, LayerOp::Add, &[left, right], left.shape, node, false)
    }

    /// Absent states become zeros of the first present one's shape; with none present there is no output.
    fn concat(&mut self, name: &str, states: &[Option<Value>]) -> Option<Value> {
        let present: Vec<Value> = states.iter().flatten().copied().collect();
        let first = *present.first()?;
        if states.len() == 1 {
            return Some(first);
        }
        let node = self.join(Primitive::Concat, &present);
        let mut parts = Vec::new();
        for (i, state) in states.iter().enumerate() {
            parts.push(match state {
                Some(state) => *state,
                None => self.layer(format!("{name}.zeros{i}"), LayerOp::Zeros, &[], first.shape, first.node, false),
            });
        }
        let channels = parts.iter().map(|part| part.shape[0]).sum();
        let shape = [channels, first.shape[1], first.shape[2]];
        Some(self.layer(format!("{name}.concat"), LayerOp::Concat, &parts, shape, node, false))
    }

    fn head(&mut self, a: &Architecture, features: Value) {
        let mut x = if a.global_average {
            let node = self.node(Primitive::GlobalAverage, None, &[features.node]);
            let shape = [features.shape[0], 1, 1];
            self.layer("head.pool".into(), LayerOp::GlobalAverage, &[features], shape, node, false)
        } else {
            let shape = [features.shape.iter().product(), 1, 1];
            self.layer("head.flatten".into(), LayerOp::Flatten, &[features], shape, features.node, false)
        };
        let mut name = "head.linear0";
        if let Some(hidden) = a.hidden {
            x = self.linear(name, x, usize::from(hidden), false);
            x = self.relu(x);
            x = self.layer("head.dropout".into(), LayerOp::Dropout, &[x], x.shape, x.node, false);
            name = "head.linear1";
        }
        self.linear(name, x, self.task.classes, true);
    }

    fn linear(&mut self, name: &str, x: Value, outputs: usize, classifier: bool) -> Value {
        let weight = [outputs, x.shape[0], 1, 1];
        self.declared += (outputs * x.shape[0] + outputs) as u64;
        let node = self.parameter(ParameterKind::Weight, Primitive::Conv, weight, &[x.node], classifier);
        let node = self.parameter(ParameterKind::Bias, Primitive::Bias, [outputs, 1, 1, 1], &[node], classifier);
        let value = self.layer(name.into(), LayerOp::Linear, &[x], [outputs, 1, 1], node, true);
        let layer = self.layers.len() - 1;
        self.layers[layer].parameter = Some(self.parameters.len() - 2);
        value
    }

    /// Adds a layer; `parameter` if it uses the parameter added last.
    fn layer(
        &mut self,
        name: String,
        op: LayerOp,
        inputs: &[Value],
        shape: [usize; 3],
        node: usize,
        parameter: bool,
    ) -> Value {
        let parameter = parameter.then(|| self.parameters.len() - 1);
        let inputs = inputs.iter().map(|value| value.id).collect();
        self.layers.push(Layer { name, op, inputs, shape, parameter });
        self.relu_of.push(None);
        Value { id: self.layers.len(), node, shape }
    }

    /// Adds a parameter, for the layer to come, and its node.
    fn parameter(
        &mut self,
        kind: ParameterKind,
        primitive: Primitive,
        shape: [usize; 4],
        sources: &[usize],
        classifier: bool,
    ) -> usize {
        let node = self.node(primitive, Some(shape), sources);
        self.nodes[node].parameter = Some(self.parameters.len());
        self.nodes[node].classifier = classifier;
        self.parameters.push(Parameter { kind, shape, layer: self.layers.len(), node });
        node
    }

    /// Node of a sum or concatenation: none of its own where all inputs come from one.
    fn join(&mut self, primitive: Primitive, inputs: &[Value]) -> usize {
        let mut sources: Vec<usize> = inputs.iter().map(|value| value.node).collect();
        sources.sort_unstable();
        sources.dedup();
        if let [only] = sources[..] { only } else { self.node(primitive, None, &sources) }
    }

    /// Adds a node behind `sources`, which ascend.
    fn node(&mut self, primitive: Primitive, shape: Option<[usize; 4]>, sources: &[usize]) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node { primitive, shape, parameter: None, classifier: false });
        self.edges.extend(sources.iter().map(|&source| (source as u32, node as u32)));
        node
    }

    /// Deletes what the output, the last layer, does not depend on.
    fn finish(self) -> Blueprint {
        let mut used = vec![false; self.layers.len() + 1];
        used[self.layers.len()] = true;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            if used[i + 1] {
                layer.inputs.iter().for_each(|&input| used[input] = true);
            }
        }
        let mut reached = vec![false; self.nodes.len()];
        reached[self.nodes.len() - 1] = true;
        for &(source, target) in self.edges.iter().rev() {
            reached[source as usize] |= reached[target as usize];
        }
        // The image and node 0 always stay: their new index is theirs.
        let values = renumber(&used);
        let nodes = renumber(&reached);
        let kept: Vec<bool> = self.parameters.iter().map(|p| used[p.layer + 1]).collect();
        let parameters = renumber(&kept);
        let keep_layer = |(i, mut layer): (usize, Layer)| {
            layer.inputs.iter_mut().for_each(|input| *input = values[*input]);
            layer.parameter = layer.parameter.map(|p| parameters[p]);
            used[i + 1].then_some(layer)
        };
        let keep_parameter = |(i, p): (usize, Parameter)| {
            kept[i].then(|| Parameter { layer: values[p.layer + 1] - 1, node: nodes[p.node], ..p })
        };
        let keep_node = |(i, node): (usize, Node)| {
            reached[i].then(|| Node { parameter: node.parameter.map(|p| parameters[p]), ..node })
        };
        let keep_edge = |(s, t): (u32, u32)| {
            let inside = reached[s as usize] && reached[t as usize];
            inside.then(|| (nodes[s as usize] as u32, nodes[t as usize] as u32))
        };
        Blueprint {
            task: self.task,
            layers: self.layers.into_iter().enumerate().filter_map(keep_layer).collect(),
            parameters: self.parameters.into_iter().enumerate().filter_map(keep_parameter).collect(),
            graph: Graph {
                nodes: self.nodes.into_iter().enumerate().filter_map(keep_node).collect(),
                edges: self.edges.into_iter().filter_map(keep_edge).collect(),
            },
            declared_parameters: self.declared,
        }
    }
}

impl Convolution {
    /// Ungrouped, dilation 1, padded so that stride 1 keeps the size.
    const fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel, stride, padding: kernel / 2, dilation: 1, depthwise: false, shifted: false }
    }
}

/// New index of everything that is kept.
fn renumber(kept: &[bool]) -> Vec<usize> {
    kept.iter()
        .scan(0, |next, &keep| {
            let index = *next;
            *next += usize::from(keep);
            Some(index)
        })
        .collect()
}
