//! Names and layouts of a file as engines see them. Enters: the summary of an ONNX file and the network read from it.
//! Leaves: how the input is laid out, the values to compare. Refuses: inputs that are not float.

use std::collections::{HashMap, HashSet};

use crate::network::{Network, Op};
use crate::onnx::{NodeSummary, Summary, summarize};

use super::Request;

/// What the elements of a file's input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    /// The network's stored integers.
    Unsigned,
    /// Likewise.
    Signed,
}

/// What an engine is asked for.
pub(super) struct Names {
    /// The graph's input.
    pub(super) input: String,
    /// What its elements are.
    pub(super) element: Element,
    /// Whether it is `N H W C`.
    pub(super) channels_last: bool,
    /// What the network ends with, before a Softmax that it has not.
    pub(super) output: String,
    /// Integer tensors: name in the network, value in the file.
    pub(super) taps: Vec<(String, String)>,
}

impl Names {
    pub(super) fn of(request: &Request) -> Result<Self, String> {
        let summary = summarize(request.bytes, &request.path.display().to_string()).map_err(|e| e.to_string())?;
        let [input] = &summary.inputs[..] else { return Err(format!("{} inputs, expected one", summary.inputs.len())) };
        let (kind, extents) = input.kind.split_once(' ').unwrap_or((&input.kind, ""));
        let element = match kind {
            "FLOAT" => Element::Float,
            "UINT8" => Element::Unsigned,
            "INT8" => Element::Signed,
            _ => return Err(format!("its input is {}, expected FLOAT, UINT8 or INT8", input.kind)),
        };
        let shape = request.network.tensors[request.network.input].shape;
        let wanted = |extents: [usize; 3]| extents.map(|e| e.to_string()).join(" x ");
        let given = extents.split_once(" x ").map_or("", |(_, rest)| rest);
        let channels_last =
            given != wanted([shape.c, shape.h, shape.w]) && given == wanted([shape.h, shape.w, shape.c]);
        Ok(Self {
            input: input.name.clone(),
            element,
            channels_last,
            output: output(&summary, request.quantized, ends_in_softmax(request.network))
                .ok_or("the graph has no output")?,
            taps: if request.quantized { taps(&summary, request.network) } else { Vec::new() },
        })
    }

    /// One image as the file wants it. Integers are the numbers that they are.
    pub(super) fn feed(&self, network: &Network, pixels: &[u8]) -> Vec<f32> {
        let value =
            |(i, &pixel): (usize, &u8)| network.preprocessing.value(i % network.preprocessing.mean.len(), pixel);
        let mut values: Vec<f32> = match self.channels_last {
            true => pixels.iter().enumerate().map(value).collect(),
            false => network.preprocessing.normalize(pixels),
        };
        if let (Element::Unsigned | Element::Signed, Some(encoding)) =
            (self.element, &network.tensors[network.input].encoding)
        {
            values.iter_mut().for_each(|value| *value = encoding.quantize(0, *value) as f32);
        }
        values
    }
}

fn ends_in_softmax(network: &Network) -> bool {
    network.nodes.iter().any(|node| node.output == network.output && node.op == Op::Softmax)
}

/// The value behind which only dequantization, new shapes and, unless it is part of the network, Softmax follow: with `integers` the
/// stored one.
fn output(summary: &Summary, integers: bool, softmax: bool) -> Option<String> {
    let producers: HashMap<&str, &NodeSummary> =
        summary.nodes.iter().flat_map(|node| node.outputs.iter().map(move |o| (o.name.as_str(), node))).collect();
    let mut name = summary.outputs.first()?.name.as_str();
    let (mut quantized, mut real) = (None, name);
    while let Some(node) = producers.get(name) {
        match node.op.as_str() {
            // What is read last is what the network stores, a Clip behind QuantizeLinear included.
            "DequantizeLinear" => quantized = quantized.or(node.inputs.first().map(String::as_str)),
            "QuantizeLinear" => quantized = quantized.or(Some(name)),
            "Softmax" if !softmax => {
                real = node.inputs.first()?;
                quantized = None;
            }
            "Identity" | "Reshape" | "Flatten" | "Squeeze" => {}
            "Clip" if integers => quantized = quantized.or(Some(name)),
            _ => break,
        }
        name = node.inputs.first()?;
    }
    Some(if integers { quantized.unwrap_or(real) } else { real }.to_owned())
}

/// The values of the file that hold the network's integer tensors.
fn taps(summary: &Summary, network: &Network) -> Vec<(String, String)> {
    let values: HashSet<&str> =
        summary.nodes.iter().flat_map(|node| node.outputs.iter().map(|output| output.name.as_str())).collect();
    // Dequantized tensors may bear the plain name.
    let real: HashSet<&str> = summary
        .nodes
        .iter()
        .filter(|node| node.op == "DequantizeLinear")
        .flat_map(|node| node.outputs.iter().map(|output| output.name.as_str()))
        .collect();
    let find = |name: &str| {
        [format!("{name}_quantized"), name.to_owned()]
            .into_iter()
            .find(|value| values.contains(value.as_str()) && !real.contains(value.as_str()))
    };
    let name = |id: usize| network.tensors[id].name.clone();
    network.integer_tensors().into_iter().filter_map(|id| Some((name(id), find(&name(id))?))).collect()
}
