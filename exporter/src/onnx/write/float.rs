//! The float file. Enters: a network, BatchNorm folded or not; encodings and integers are not looked at. Leaves: an ONNX
//! file of float operators, one for each node and under its name. Refuses what [`super::check`] refuses.

use super::{Rank, Sheet, WriteOptions, check, node};
use crate::network::{Network, Node, Op, TensorId};
use crate::onnx::builder::Element;
use crate::onnx::{WriteError, metadata};

/// Writes `network` as a float ONNX file.
///
/// # Errors
/// [`WriteError`] naming the node or tensor.
pub fn write_float(network: &Network, options: &WriteOptions) -> Result<Vec<u8>, WriteError> {
    check(network)?;
    let mut sheet = Sheet::new(network, options);
    let mut values: Vec<Option<(String, Rank)>> = vec![None; network.tensors.len()];
    values[network.input] = Some((network.tensors[network.input].name.clone(), Rank::Image));
    for node in &network.nodes {
        let known: Vec<(TensorId, (String, Rank))> =
            node.inputs.iter().filter_map(|&i| Some((i, values[i].clone()?))).collect();
        let ranks: Vec<Rank> = known.iter().map(|(_, (_, rank))| *rank).collect();
        let rank = node::input_rank(&node.op, &ranks);
        let mut inputs = Vec::new();
        for (tensor, (name, found)) in known {
            inputs.push(if found == rank { name } else { sheet.reshape(tensor, &name, rank) });
        }
        inputs.splice(..0, vec![inputs[0].clone(); node::reads(&node.op) - 1]);
        inputs.extend(parameters(&mut sheet, node));
        let output = &network.tensors[node.output].name;
        let name = if node.output == network.output { output.clone() } else { sheet.builder.value(output) };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        sheet.operators(&node.op, &node.name, &inputs, &name);
        let rank = node::output_rank(&node.op, rank);
        if node.output != network.output {
            let dims = sheet.dims(node.output, rank);
            sheet.builder.describe(&name, Element::F32, &dims);
        }
        values[node.output] = Some((name, rank));
    }
    let rank = values[network.output].as_ref().map_or(Rank::Vector, |(_, rank)| *rank);
    Ok(sheet.finish(rank, &metadata::pairs(network, false)))
}

/// Adds the parameters of a node and returns their names, in the order of the operator's inputs.
fn parameters(sheet: &mut Sheet, node: &Node) -> Vec<String> {
    let of = |what: &str| format!("{}_{what}", node.name);
    let builder = &mut sheet.builder;
    let mut names = Vec::new();
    match &node.op {
        Op::Conv2d(conv) => {
            let [r, s] = conv.window.kernel;
            let dims = [conv.out_channels, conv.weight.len() / (conv.out_channels * r * s), r, s];
            names.push(builder.floats(&of("weight"), &dims, &conv.weight));
            names.extend(conv.bias.as_ref().map(|bias| builder.floats(&of("bias"), &[bias.len()], bias)));
        }
        Op::Dense(dense) => {
            let dims = [dense.out_features, dense.weight.len() / dense.out_features];
            names.push(builder.floats(&of("weight"), &dims, &dense.weight));
            names.extend(dense.bias.as_ref().map(|bias| builder.floats(&of("bias"), &[bias.len()], bias)));
        }
        Op::BatchNorm(norm) => {
            for (what, values) in
                [("gamma", &norm.gamma), ("beta", &norm.beta), ("mean", &norm.mean), ("variance", &norm.variance)]
            {
                names.push(builder.floats(&of(what), &[values.len()], values));
            }
        }
        Op::Clamp { min, max } if node.op.name() == "Clip" => {
            let mut limit = |what: &str, value: f32| match value.is_finite() {
                true => builder.floats(&of(what), &[], &[value]),
                false => String::new(),
            };
            names.extend([limit("min", *min), limit("max", *max)]);
        }
        _ => {}
    }
    names
}
