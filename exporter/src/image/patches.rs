//! The first ops patch by patch: bands of rows of what they make, each computed through all of them before the next. *Enters*: the ops
//! of a network, and how many of them and in how many bands. *Leaves*: ops on bands, which are ordinary ops on smaller tensors, joined
//! behind the last. *Refused* (nothing comes back): ops of which a band of the output needs more than a band of the input, branches
//! that lead out of the first ops, bands that do not start at a multiple of 16 bytes.
//!
//! What is large between the first op and the last then never exists in whole. Rows that two bands need are computed twice. After
//! J. Lin et al., MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning, NeurIPS 2021, whose patches are cut in both
//! directions; bands of rows lie in the arena as they are, so that kernels need not know of them.

use super::writer::Draft;
use crate::plan::Output;
use runtime::image::repr::{OpKind, TensorRepr, WindowRepr};
use runtime::image::{ALIGN, MAX_INPUTS};
use std::ops::Range;

/// Ops of which the first are computed patch by patch.
pub(super) struct Patches {
    /// Tensors: those of the network that are still there in whole, then bands.
    pub(super) records: Vec<TensorRepr>,
    /// Which of the network's those are.
    pub(super) whole: Vec<bool>,
    /// Input and output of the network.
    pub(super) ends: [usize; 2],
    /// For each band the name of its op.
    pub(super) names: Vec<String>,
    pub(super) drafts: Vec<Draft>,
    /// How many of the network's ops are computed so.
    pub(super) ops: usize,
}

impl Patches {
    /// Cuts what the last of `first` writes into `count` bands; `rest` are the ops behind it.
    pub(super) fn new(
        records: &[TensorRepr],
        first: &[Draft],
        rest: &[Draft],
        ends: [usize; 2],
        count: usize,
    ) -> Option<Self> {
        let last = first.last()?.output;
        let height = usize::from(records[last].shape[0]);
        let within =
            |tensor: usize| tensor != last && (tensor == ends[0] || first.iter().any(|op| op.output == tensor));
        let leads_out = rest.iter().flat_map(|op| &op.inputs).any(|&tensor| within(tensor));
        if leads_out || count < 2 || count > height || count > MAX_INPUTS as usize {
            return None;
        }
        let mut patches =
            Self { records: records.to_vec(), whole: vec![], ends, names: vec![], drafts: vec![], ops: first.len() };
        let mut bands = Vec::new();
        for band in 0..count {
            let rows = band * height / count..(band + 1) * height / count;
            bands.push(patches.band(first, last, rows)?);
        }
        let aligned = |&band: &usize| patches.records[band].bytes.is_multiple_of(ALIGN);
        if !bands[..count - 1].iter().all(aligned) {
            return None;
        }
        let join = Draft { inputs: bands, view: Some(Output::Around), ..patches.view("join", last) };
        patches.drafts.push(join);
        patches.drafts.extend_from_slice(rest);
        patches.forget(records.len());
        Some(patches)
    }

    /// Takes tensors out of the table that are no longer there in whole; `count` are the network's.
    fn forget(&mut self, count: usize) {
        let mut used = vec![false; self.records.len()];
        let touched = self.drafts.iter().flat_map(|op| op.inputs.iter().chain([&op.output]));
        touched.chain(&self.ends).for_each(|&tensor| used[tensor] = true);
        let place = |tensor: usize| used[..tensor].iter().filter(|used| **used).count();
        for op in &mut self.drafts {
            op.inputs.iter_mut().chain([&mut op.output]).for_each(|tensor| *tensor = place(*tensor));
        }
        self.ends = self.ends.map(place);
        let mut flags = used.iter();
        self.records.retain(|_| flags.next() == Some(&true));
        self.whole = used[..count].to_vec();
    }

    /// Computes those rows of tensor `last`, and says which tensor they are.
    fn band(&mut self, first: &[Draft], last: usize, rows: Range<usize>) -> Option<usize> {
        // Which rows of each tensor are needed, by any op.
        let mut needed: Vec<Option<Range<usize>>> = vec![None; self.records.len()];
        needed[last] = Some(rows);
        for op in first.iter().rev() {
            let Some(rows) = needed[op.output].clone() else { continue };
            for &input in &op.inputs {
                let read = self.read(op, input, &rows)?;
                let all = needed[input].clone().unwrap_or(read.clone());
                needed[input] = Some(all.start.min(read.start)..all.end.max(read.end));
            }
        }
        // Where they are: the input is there in whole.
        let mut places: Vec<Option<(usize, Range<usize>)>> = vec![None; needed.len()];
        for op in first {
            let Some(rows) = needed[op.output].clone() else { continue };
            let mut inputs = Vec::new();
            for &input in &op.inputs {
                let read = self.read(op, input, &rows)?;
                let (tensor, there) = places[input].clone().unwrap_or((input, 0..self.height(input)));
                inputs.push(self.slice(tensor, read.start - there.start..read.end - there.start)?);
            }
            let output =
                self.rows_of(op.output, rows.len(), &format!("{} rows {}..{}", op.name, rows.start, rows.end))?;
            let name = format!("{} rows {}..{}", op.name, rows.start, rows.end);
            let kind = self.cut(op, &rows);
            self.drafts.push(Draft { name, inputs, output, kind, ..op.clone() });
            places[op.output] = Some((output, rows));
        }
        places[last].as_ref().map(|&(tensor, _)| tensor)
    }

    fn height(&self, tensor: usize) -> usize {
        self.records[tensor].shape[0].into()
    }

    /// The rows of `input` that those of the op's output are made of.
    fn read(&self, op: &Draft, input: usize, rows: &Range<usize>) -> Option<Range<usize>> {
        let height = self.height(input);
        match op.kind {
            OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } => {
                let [start, end] = reach(&window, rows);
                let padding = usize::from(window.padding[0]);
                let read = start.saturating_sub(padding)..end.saturating_sub(padding).min(height);
                (read.start < read.end).then_some(read)
            }
            OpKind::Add { .. } | OpKind::Lookup { .. } => Some(rows.clone()),
            OpKind::Mul { .. } if self.records[input].shape == self.records[op.output].shape => Some(rows.clone()),
            _ => None,
        }
    }

    /// The op, for those rows of its output and just the rows of its input that they need.
    fn cut(&self, op: &Draft, rows: &Range<usize>) -> OpKind {
        let mut kind = op.kind;
        if let OpKind::Conv2d { window, .. } | OpKind::MaxPool { window } | OpKind::AveragePool { window, .. } =
            &mut kind
        {
            let [start, end] = reach(window, rows);
            let inside = usize::from(window.padding[0])..usize::from(window.padding[0]) + self.height(op.inputs[0]);
            // At most what it was.
            window.padding[0] = inside.start.saturating_sub(start) as u16;
            window.padding[2] = end.saturating_sub(inside.end) as u16;
        }
        kind
    }

    /// A new tensor of so many rows of another.
    fn rows_of(&mut self, tensor: usize, rows: usize, name: &str) -> Option<usize> {
        let record = self.records[tensor];
        let [_, w, c] = record.shape;
        let bytes = rows as u32 * u32::from(w) * u32::from(c);
        self.records.push(TensorRepr { shape: [rows as u16, w, c], bytes, ..record });
        self.names.push(name.into());
        Some(self.records.len() - 1)
    }

    /// Those rows of a tensor, where they are.
    fn slice(&mut self, tensor: usize, rows: Range<usize>) -> Option<usize> {
        if rows == (0..self.height(tensor)) {
            return Some(tensor);
        }
        let [_, w, c] = self.records[tensor].shape.map(usize::from);
        let offset = rows.start * w * c;
        if !offset.is_multiple_of(ALIGN as usize) {
            return None;
        }
        let name = format!("rows {}..{}", rows.start, rows.end);
        let output = self.rows_of(tensor, rows.len(), &name)?;
        let view =
            Draft { inputs: vec![tensor], view: Some(Output::Within(offset as u64)), ..self.view(&name, output) };
        self.drafts.push(view);
        Some(output)
    }

    /// A reshape to that tensor.
    fn view(&self, name: &str, output: usize) -> Draft {
        let TensorRepr { bits, signed, .. } = self.records[output];
        let clamp = runtime::arith::limits(bits, signed);
        Draft { name: name.into(), inputs: vec![], output, kind: OpKind::Reshape, clamp, view: None }
    }
}

/// The rows under a window at those rows of the output, counted from the first of the padding.
fn reach(window: &WindowRepr, rows: &Range<usize>) -> [usize; 2] {
    let stride = usize::from(window.stride[0]);
    let taps = usize::from(window.dilation[0]) * (usize::from(window.kernel[0]) - 1) + 1;
    [rows.start * stride, (rows.end - 1) * stride + taps]
}

/// Multiply-accumulates of all ops, padding counted.
pub(super) fn macs(records: &[TensorRepr], drafts: &[Draft]) -> u64 {
    let of = |draft: &Draft| {
        let (x, y) = (&records[draft.inputs[0]], &records[draft.output]);
        let terms = match draft.kind {
            OpKind::Conv2d { window, groups, .. } => {
                let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                taps * u64::from(x.shape[2] / groups.max(1))
            }
            OpKind::Dense { .. } => x.bytes.into(),
            _ => 0,
        };
        terms * u64::from(y.bytes)
    };
    drafts.iter().map(of).sum()
}
