//! Builds the records of an image and lays them out. Enters: a network that has passed the check. Leaves: bytes. See
//! [`super`] for what is refused.

use super::patches::{Patches, macs};
use super::{ImageWriteError, Patched, pack, provenance};
use crate::network::{Encoding, Fused, Integers, Network, Op, Shape, TensorId, Window};
use crate::plan::{self, Output, Plan, Step};
use crate::quantize::{
    add_multipliers, clamp_limits, function_table, mean_multiplier, multiplier, softmax_constants, table,
};
use runtime::image::repr::{HeaderRepr, OpKind, OpRepr, Span, TensorRepr, WeightsRepr, WindowRepr};
use runtime::image::{ALIGN, Image, seal};
use runtime::kernels::{lead, scratch_bytes};

/// Output pixels in a strip of an op that writes over its input, at least: what is hardly slower than all at once, and what
/// saves more. Of equal plans the first is taken.
const STRIPS: [u32; 2] = [32, 8];

/// One integer op before it has a place; tensors are places in the table.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
    pub(super) kind: OpKind,
    pub(super) clamp: (i32, i32),
    /// Where a reshape's output lies; others are placed by their kind.
    pub(super) view: Option<Output>,
}

/// An image in the making.
pub(super) struct Writer<'n> {
    network: &'n Network,
    file: Vec<u8>,
    /// Network's tensor of each record.
    tensors: Vec<TensorId>,
    records: Vec<TensorRepr>,
    drafts: Vec<Draft>,
    /// For each of the network's tensors that is a flattened image: that image, whose pixels are still in `H W C` order.
    layouts: Vec<Option<Shape>>,
    /// Arena.
    pub(super) plan: Plan,
}

impl<'n> Writer<'n> {
    /// Everything but the layout of the file.
    pub(super) fn new(network: &'n Network) -> Result<Self, ImageWriteError> {
        let mut writer = Self::without_plan(network)?;
        writer.plan = planned(&writer.records, &writer.drafts, writer.ends())?;
        Ok(writer)
    }

    /// Whether the arena of the plan has at most so many bytes.
    pub(super) fn fits(network: &'n Network, most: u64) -> Result<bool, ImageWriteError> {
        let writer = Self::without_plan(network)?;
        let [input, output] = writer.ends();
        Ok(STRIPS.into_iter().any(|pixels| {
            let (sizes, steps) = steps(&writer.records, &writer.drafts, pixels);
            plan::fits(&sizes, &steps, input, output, most)
        }))
    }

    fn without_plan(network: &'n Network) -> Result<Self, ImageWriteError> {
        let plan = Plan { tensors: vec![], scratch: vec![], bytes: 0, lower_bound: 0, optimal: true };
        let file = vec![0; HeaderRepr::BYTES];
        let tensors = network.integer_tensors();
        let layouts = layouts(network)?;
        let mut writer = Self { network, file, tensors, records: vec![], drafts: vec![], layouts, plan };
        for id in writer.tensors.clone() {
            let record = writer.tensor(id)?;
            writer.records.push(record);
        }
        for group in network.fused() {
            let draft = writer.draft(group)?;
            writer.drafts.push(draft);
        }
        Ok(writer)
    }

    /// Computes the first ops patch by patch, as many of them as make the arena smallest.
    pub(super) fn patch(&mut self, count: usize) -> Result<Patched, ImageWriteError> {
        let whole = (self.plan.bytes, macs(&self.records, &self.drafts));
        let mut candidates = Vec::new();
        for ops in 1..=self.drafts.len() {
            let (first, rest) = self.drafts.split_at(ops);
            if let Some(patches) = Patches::new(&self.records, first, rest, self.ends(), count) {
                let Patches { records, drafts, ends, .. } = &patches;
                let least = STRIPS.into_iter().map(|pixels| {
                    let (sizes, steps) = steps(records, drafts, pixels);
                    plan::lower_bound(&sizes, &steps, ends[0], ends[1])
                });
                candidates.push((least.min().unwrap_or(0), macs(records, drafts), patches));
            }
        }
        // Plans take time, and few are better than all bounds that follow.
        candidates.sort_by_key(|&(least, macs, _)| (least, macs));
        let mut best: Option<(Patches, Plan, u64)> = None;
        for (least, macs, patches) in candidates {
            if best.as_ref().is_some_and(|(_, plan, _)| u64::from(plan.bytes) <= least) {
                break;
            }
            let plan = planned(&patches.records, &patches.drafts, patches.ends)?;
            if best.as_ref().is_none_or(|(_, found, fewest)| (plan.bytes, macs) < (found.bytes, *fewest)) {
                best = Some((patches, plan, macs));
            }
        }
        let smaller = best.filter(|(_, plan, _)| plan.bytes < whole.0);
        let Some((patches, plan, macs)) = smaller else {
            return Err(ImageWriteError::Patches { count, arena: whole.0 });
        };
        let patched = Patched { ops: patches.ops, arena: [whole.0, plan.bytes], macs: [whole.1, macs] };
        (self.records, self.drafts, self.plan) = (patches.records, patches.drafts, plan);
        let mut whole = patches.whole.iter();
        self.tensors.retain(|_| whole.next() == Some(&true));
        for (i, name) in (self.tensors.len()..).zip(&patches.names) {
            self.records[i].name = self.data(name.as_bytes())?;
        }
        Ok(patched)
    }

    /// The file.
    pub(super) fn write(mut self) -> Result<Vec<u8>, ImageWriteError> {
        let network = self.network;
        let ops = std::mem::take(&mut self.drafts);
        for (record, &offset) in self.records.iter_mut().zip(&self.plan.tensors) {
            record.offset = offset;
        }
        let mut records = Vec::new();
        for (draft, &scratch) in ops.iter().zip(&self.plan.scratch.clone()) {
            let bytes = scratch_of(&self.records, draft);
            let inputs = draft.inputs.iter().map(|&input| input as u32);
            let record = OpRepr {
                kind: draft.kind,
                inputs: self.words(inputs.map(u32::to_le_bytes))?,
                output: draft.output as u32,
                clamp_min: draft.clamp.0 as i16,
                clamp_max: draft.clamp.1 as i16,
                scratch: Span { offset: if bytes > 0 { scratch } else { 0 }, len: bytes },
                name: self.data(draft.name.as_bytes())?,
            };
            records.extend(record.emit());
        }
        let preprocessing = &network.preprocessing;
        let standard = preprocessing.mean.iter().chain(&preprocessing.std).map(|v| v.to_le_bytes());
        let tables = preprocessing.input_table(self.encoding(network.input));
        let labels: String = network.labels.iter().map(|label| format!("{label}\n")).collect();
        let tensors: Vec<u8> = self.records.iter().flat_map(TensorRepr::emit).collect();
        let header = HeaderRepr {
            contract: runtime::arith::CONTRACT,
            arena_bytes: self.plan.bytes,
            tensors: self.data(&tensors)?,
            ops: self.data(&records)?,
            input: self.index(network.input),
            output: self.index(network.output),
            input_tables: self.data(&tables)?,
            preprocessing: self.words(standard)?,
            labels: self.data(labels.as_bytes())?,
            name: self.data(network.name.as_bytes())?,
            provenance: provenance(network),
        };
        self.file[..HeaderRepr::BYTES].copy_from_slice(&header.emit());
        let limit = u32::MAX.into();
        seal(&mut self.file).map_err(|found| ImageWriteError::Field {
            what: "the file's length".into(),
            found: found as u64,
            limit,
        })?;
        Image::check(&self.file).map_err(|error| ImageWriteError::Refused(error.to_string()))?;
        Ok(self.file)
    }

    /// The record of a network's tensor, its arena offset left at 0.
    fn tensor(&mut self, id: TensorId) -> Result<TensorRepr, ImageWriteError> {
        let tensor = &self.network.tensors[id];
        let Shape { c, h, w } = tensor.shape;
        let narrow = |found: usize| self.narrow(&format!("an extent of tensor `{}`", tensor.name), found);
        let shape = [narrow(h)?, narrow(w)?, narrow(c)?];
        let encoding = self.encoding(id);
        let ([bits, signed], scale) = ([encoding.bits, encoding.signed.into()], encoding.scale[0]);
        let zero_point = encoding.zero_point[0];
        let bytes = tensor.shape.len() as u64;
        let limit = u32::MAX.into();
        let what = || format!("elements of tensor `{}`", tensor.name);
        let bytes = u32::try_from(bytes).map_err(|_| ImageWriteError::Field { what: what(), found: bytes, limit })?;
        let name = self.data(tensor.name.as_bytes())?;
        Ok(TensorRepr { offset: 0, bytes, shape, bits, signed: signed != 0, scale, zero_point, name })
    }

    /// What a fused group computes.
    fn draft(&mut self, group: Fused) -> Result<Draft, ImageWriteError> {
        let network = self.network;
        let node = &network.nodes[group.head];
        let inputs = node.inputs.clone();
        let (x, y) = (self.encoding(inputs[0]), self.encoding(group.output));
        let shape = network.tensors[inputs[0]].shape;
        let fused = group.clamp.map(|id| &network.nodes[id].op);
        let limits = match fused.unwrap_or(&node.op) {
            Op::Clamp { min, max } => Some((*min, *max)),
            _ => None,
        };
        let clamp = clamp_limits(y, limits);
        let refuse = |value: f32| ImageWriteError::Node {
            node: node.name.clone(),
            reason: format!("multiplier {value:e}, expected a normal float below 2^31"),
        };
        let kind = match &node.op {
            Op::Conv2d(conv) => {
                let integers = integers(&node.name, conv.integers.as_ref())?;
                let depthwise = conv.groups == shape.c && conv.groups == conv.out_channels;
                let taps = conv.window.kernel[0] * conv.window.kernel[1];
                let rows = pack::convolution(&integers.weight, conv.out_channels, taps, depthwise);
                OpKind::Conv2d {
                    window: self.window(&node.name, &conv.window)?,
                    groups: self.narrow(&format!("groups of node `{}`", node.name), conv.groups)?,
                    weights: self.weights(&rows, integers, multipliers(integers, x, y).map_err(refuse)?)?,
                }
            }
            Op::Dense(dense) => {
                let integers = integers(&node.name, dense.integers.as_ref())?;
                // Behind a Flatten the image is what the columns are ordered by.
                let image = self.layouts[inputs[0]].unwrap_or(shape);
                let rows = pack::dense(&integers.weight, image.c, image.pixels());
                let multipliers = multipliers(integers, x, y).map_err(refuse)?;
                OpKind::Dense { weights: self.weights(&rows, integers, multipliers)? }
            }
            Op::MaxPool(pool) => OpKind::MaxPool { window: self.window(&node.name, &pool.window)? },
            Op::AveragePool(pool) => {
                let taps = pool.window.kernel[0] * pool.window.kernel[1];
                let means: Result<Vec<f32>, f32> =
                    (1..=taps).map(|n| mean_multiplier(x.scale[0], y.scale[0], n)).collect();
                let multipliers = self.words(means.map_err(refuse)?.into_iter().map(f32::to_le_bytes))?;
                OpKind::AveragePool { window: self.window(&node.name, &pool.window)?, multipliers }
            }
            Op::GlobalAveragePool => OpKind::GlobalAveragePool {
                multiplier: mean_multiplier(x.scale[0], y.scale[0], shape.pixels()).map_err(refuse)?,
            },
            Op::Add => {
                let scales = [x.scale[0], self.encoding(inputs[1]).scale[0]];
                let add = add_multipliers(scales, y.scale[0]).map_err(refuse)?;
                OpKind::Add { multipliers: add.multipliers, shift: add.shift }
            }
            Op::Concat => {
                let mut spans = Vec::new();
                for &input in &inputs {
                    let from = self.encoding(input);
                    let copied = from == y && clamp == (y.qmin(), y.qmax());
                    let span = if copied { Span::default() } else { self.data(&table(from, y, clamp))? };
                    spans.extend([span.offset.to_le_bytes(), span.len.to_le_bytes()]);
                }
                OpKind::Concat { tables: self.words(spans.into_iter())? }
            }
            Op::Mul => {
                let scale = self.encoding(inputs[1]).scale[0];
                OpKind::Mul { multiplier: multiplier(x.scale[0], scale, y.scale[0]).map_err(refuse)? }
            }
            Op::Pad { padding } => {
                let narrow = |found: &usize| self.narrow(&format!("the padding of node `{}`", node.name), *found);
                let [top, left, bottom, right] = padding;
                OpKind::Pad { padding: [narrow(top)?, narrow(left)?, narrow(bottom)?, narrow(right)?] }
            }
            Op::Clamp { .. } => OpKind::Lookup { table: self.data(&table(x, y, clamp))? },
            Op::Function(function) => OpKind::Lookup { table: self.data(&function_table(*function, x, y, clamp))? },
            Op::Softmax => {
                let constants = softmax_constants(x, y).map_err(refuse)?;
                let table = self.words(constants.table.into_iter().map(u32::to_le_bytes))?;
                OpKind::Softmax { table, multiplier: constants.multiplier, shift: constants.shift }
            }
            Op::Flatten => OpKind::Reshape,
            Op::BatchNorm(_) => {
                let reason = "a BatchNormalization has no integers; fold it first".into();
                return Err(ImageWriteError::Node { node: node.name.clone(), reason });
            }
        };
        let inputs = inputs.iter().map(|&id| self.index(id) as usize).collect();
        let output = self.index(group.output) as usize;
        let view = (kind == OpKind::Reshape).then_some(Output::Within(0));
        Ok(Draft { name: node.name.clone(), inputs, output, kind, clamp, view })
    }

    /// Places of the network's input and output in the table.
    fn ends(&self) -> [usize; 2] {
        [self.network.input, self.network.output].map(|id| self.index(id) as usize)
    }

    /// Packed weights with their constants.
    fn weights(
        &mut self,
        rows: &[Vec<i16>],
        integers: &Integers,
        multipliers: Vec<f32>,
    ) -> Result<WeightsRepr, ImageWriteError> {
        let encoding = &integers.encoding;
        let zero_points = match encoding.zero_point[..] {
            [first, ref rest @ ..] if rest.iter().all(|z| *z == first) => vec![first],
            _ => encoding.zero_point.clone(),
        };
        let bits = pack::stored_bits(encoding.bits);
        // Those of 4 and 2 bits without a sign, the zero point moved by as much: a Cortex-M4 multiplies such ones, and would flip
        // the sign in every word. Integers less zero points are the same.
        let lift = if encoding.signed && bits < 8 { 1 << (bits - 1) } else { 0 };
        Ok(WeightsRepr {
            bits,
            signed: encoding.signed && lift == 0,
            data: self.data(&pack::bytes(rows, bits, lift))?,
            zero_points: self.words(zero_points.into_iter().map(|z| (z + i32::from(lift)).to_le_bytes()))?,
            bias: self.words(integers.bias.iter().map(|b| b.to_le_bytes()))?,
            multipliers: self.words(multipliers.into_iter().map(f32::to_le_bytes))?,
        })
    }

    fn window(&self, node: &str, window: &Window) -> Result<WindowRepr, ImageWriteError> {
        let narrow = |found: usize| self.narrow(&format!("the window of node `{node}`"), found);
        let pair = |[a, b]: [usize; 2]| Ok::<_, ImageWriteError>([narrow(a)?, narrow(b)?]);
        let [top, left, bottom, right] = window.padding;
        let ([top, left], [bottom, right]) = (pair([top, left])?, pair([bottom, right])?);
        Ok(WindowRepr {
            kernel: pair(window.kernel)?,
            stride: pair(window.stride)?,
            padding: [top, left, bottom, right],
            dilation: pair(window.dilation)?,
        })
    }

    fn narrow(&self, what: &str, found: usize) -> Result<u16, ImageWriteError> {
        let limit = u16::MAX.into();
        u16::try_from(found).map_err(|_| ImageWriteError::Field { what: what.into(), found: found as u64, limit })
    }

    /// Encoding of an integer tensor; the check has seen that there is one.
    fn encoding(&self, id: TensorId) -> &'n Encoding {
        self.network.tensors[id].encoding.as_ref().expect("checked: every integer tensor has an encoding")
    }

    /// Place of a network's tensor in the table.
    fn index(&self, id: TensorId) -> u32 {
        self.tensors.iter().position(|&other| other == id).expect("integer tensors are in the table") as u32
    }

    /// Appends `bytes`, aligned.
    fn data(&mut self, bytes: &[u8]) -> Result<Span, ImageWriteError> {
        self.file.resize(self.file.len().next_multiple_of(ALIGN as usize), 0);
        let (offset, len) = (self.file.len(), bytes.len());
        self.file.extend_from_slice(bytes);
        let limit = u32::MAX.into();
        let found = self.file.len() as u64;
        if found > limit {
            return Err(ImageWriteError::Field { what: "the file's length".into(), found, limit });
        }
        Ok(Span { offset: offset as u32, len: len as u32 })
    }

    /// Appends a table of four-byte numbers.
    fn words(&mut self, words: impl Iterator<Item = [u8; 4]>) -> Result<Span, ImageWriteError> {
        self.data(&words.flatten().collect::<Vec<u8>>())
    }
}

/// Finds a place in the arena for every tensor and every scratch.
fn planned(records: &[TensorRepr], drafts: &[Draft], [input, output]: [usize; 2]) -> Result<Plan, ImageWriteError> {
    let plan = |pixels| {
        let (sizes, steps) = steps(records, drafts, pixels);
        plan::plan(&sizes, &steps, input, output)
    };
    let plans = STRIPS.into_iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    Ok(plans.into_iter().min_by_key(|plan| plan.bytes).expect("there is more than one length of strips"))
}

/// Sizes of the tensors, and what each op does with them; strips of an op that writes over its input have so many pixels.
fn steps(records: &[TensorRepr], drafts: &[Draft], pixels: u32) -> (Vec<u64>, Vec<Step>) {
    let step = |draft: &Draft| Step {
        inputs: draft.inputs.clone(),
        output: draft.output,
        place: match (draft.view, draft.kind) {
            (Some(view), _) => view,
            (_, OpKind::Add { .. } | OpKind::Mul { .. } | OpKind::Lookup { .. } | OpKind::Softmax { .. }) => {
                Output::Over
            }
            (_, OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. }) => {
                Output::Below(lead(&window, &records[draft.inputs[0]], &records[draft.output], pixels))
            }
            _ => Output::Apart,
        },
        scratch: scratch_of(records, draft).into(),
    };
    (records.iter().map(|record| record.bytes.into()).collect(), drafts.iter().map(step).collect())
}

/// Scratch that an op is given.
fn scratch_of(records: &[TensorRepr], draft: &Draft) -> u32 {
    // A column is at most 2 * 65535^2 * 65535 bytes in theory; the plan refuses arenas beyond u32.
    scratch_bytes(&draft.kind, &records[draft.inputs[0]], &records[draft.output]).try_into().unwrap_or(u32::MAX)
}

fn integers<'n>(node: &str, integers: Option<&'n Integers>) -> Result<&'n Integers, ImageWriteError> {
    let reason = "it has no integer weights; quantize the network first".into();
    integers.ok_or_else(|| ImageWriteError::Node { node: node.into(), reason })
}

/// `M` of each output channel.
fn multipliers(integers: &Integers, x: &Encoding, y: &Encoding) -> Result<Vec<f32>, f32> {
    let of = |k: usize| multiplier(x.scale[0], integers.encoding.channel(k).0, y.scale[0]);
    (0..integers.bias.len()).map(of).collect()
}

/// Follows flattened images: a Flatten moves nothing, so what was `H W C` stays so until a dense layer, whose columns are
/// reordered, reads it. Between the two only ops that work element by element can stand.
fn layouts(network: &Network) -> Result<Vec<Option<Shape>>, ImageWriteError> {
    let mut layouts: Vec<Option<Shape>> = vec![None; network.tensors.len()];
    for node in &network.nodes {
        let of = |id: &TensorId| layouts[*id];
        let refuse = || ImageWriteError::Node {
            node: node.name.clone(),
            reason: "it reads a flattened image; between a Flatten and a dense layer only activation functions, and \
                     Add and Mul of two images flattened alike, can be exported"
                .into(),
        };
        layouts[node.output] = match &node.op {
            Op::Flatten => {
                let image = network.tensors[node.inputs[0]].shape;
                of(&node.inputs[0]).or((image.pixels() > 1).then_some(image))
            }
            Op::Dense(_) => None,
            Op::Clamp { .. } | Op::Function(_) => of(&node.inputs[0]),
            Op::Add | Op::Mul if of(&node.inputs[0]) == of(&node.inputs[1]) => of(&node.inputs[0]),
            _ if node.inputs.iter().all(|id| of(id).is_none()) => None,
            _ => return Err(refuse()),
        };
    }
    match layouts[network.output] {
        Some(_) => Err(ImageWriteError::Node {
            node: network.nodes.last().map_or_else(String::new, |node| node.name.clone()),
            reason: "the network ends in a flattened image; expected a vector or an image".into(),
        }),
        None => Ok(layouts),
    }
}
