//! A step's networks in JSON, for programs in other languages that do the same. Enters: blueprints. Leaves: their layers and
//! parameters, and the hypernetwork's graph with its virtual edges and levels. Refuses nothing.

use crate::graph::{Adjacency, Blueprint, GraphBatch, Layer, LayerOp, Levels, ParameterKind};
use serde_json::{Value, json};

/// `nets`: for each its `layers` (`op`, `inputs` as value ids of which 0 is the image, `shape` C H W, `parameter`, and the
/// geometry of convolutions and pools) and `parameters` (`kind`, `shape`, `node` of the united graph, `classifier`, `linear`).
/// `graph`: rows of the embeddings for each node; for both directions the neighbours with distances and the levels.
pub fn describe(nets: &[&Blueprint], s_max: u8) -> Value {
    let batch = GraphBatch::new(nets.iter().map(|net| &net.graph), s_max);
    let network = |(net, &start): (&&Blueprint, &usize)| {
        let parameter = |p: &crate::graph::Parameter| {
            let kind = match p.kind {
                ParameterKind::Weight => "weight",
                ParameterKind::Bias => "bias",
                ParameterKind::Norm => "norm",
            };
            let linear = net.layers[p.layer].op == LayerOp::Linear;
            let classifier = net.graph.nodes[p.node].classifier;
            json!({"kind": kind, "shape": p.shape, "node": start + p.node, "classifier": classifier, "linear": linear})
        };
        let parameters: Vec<Value> = net.parameters.iter().map(parameter).collect();
        json!({"layers": net.layers.iter().map(layer).collect::<Vec<_>>(), "parameters": parameters})
    };
    json!({
        "nets": nets.iter().zip(&batch.starts).map(network).collect::<Vec<_>>(),
        "graph": {
            "starts": batch.starts,
            "op_rows": batch.op_rows,
            "shape_rows": batch.shape_rows,
            "along": direction(&batch.incoming, &batch.forward),
            "back": direction(&batch.outgoing, &batch.backward),
        },
    })
}

fn direction(edges: &Adjacency, levels: &Levels) -> Value {
    json!({
        "offsets": edges.offsets,
        "neighbours": edges.neighbours,
        "distances": edges.distances,
        "level_offsets": levels.offsets,
        "level_nodes": levels.nodes,
    })
}

fn layer(layer: &Layer) -> Value {
    let mut value = json!({"inputs": layer.inputs, "shape": layer.shape, "parameter": layer.parameter});
    let mut set = |name: &str, v: Value| value[name] = v;
    set(
        "op",
        match layer.op {
            LayerOp::Relu => "relu",
            LayerOp::Convolution(_) => "conv",
            LayerOp::BatchNorm => "batch_norm",
            LayerOp::MaxPool { .. } => "max_pool",
            LayerOp::AveragePool { .. } => "average_pool",
            LayerOp::Add => "add",
            LayerOp::Concat => "concat",
            LayerOp::Zeros => "zeros",
            LayerOp::GlobalAverage => "global_average",
            LayerOp::Flatten => "flatten",
            LayerOp::Linear => "linear",
            LayerOp::Dropout => "dropout",
        }
        .into(),
    );
    match layer.op {
        LayerOp::MaxPool { stride } | LayerOp::AveragePool { stride } => set("stride", stride.into()),
        LayerOp::Convolution(conv) => {
            set("stride", conv.stride.into());
            set("padding", conv.padding.into());
            set("dilation", conv.dilation.into());
            set("depthwise", conv.depthwise.into());
            set("shifted", conv.shifted.into());
        }
        _ => {}
    }
    value
}
