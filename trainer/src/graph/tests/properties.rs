//! What holds for every network of the spaces.

use super::*;
use std::collections::HashSet;

fn of_every_kind() -> impl Iterator<Item = (Architecture, Blueprint)> {
    let splits = [Split::Id, Split::Deep, Split::Wide, Split::BnFree];
    let sampled = Space::ALL.into_iter().flat_map(move |space| splits.map(|split| nets(space, split, 25))).flatten();
    let all = sampled.chain([net_a(), net_b(), net_with_zeros()]);
    all.map(|net| (net.clone(), build(&net)))
}

#[test]
fn graphs_are_acyclic_and_every_node_lies_between_input_and_output() {
    for (net, blueprint) in of_every_kind() {
        let Graph { nodes, edges } = &blueprint.graph;
        let ordered = |pair: &[(u32, u32)]| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0);
        assert!(edges.windows(2).all(ordered) && edges.iter().all(|(s, t)| s < t), "{net}");
        assert!(edges.iter().all(|&(_, target)| (target as usize) < nodes.len()), "{net}");
        let with_source: HashSet<u32> = edges.iter().map(|&(_, target)| target).collect();
        let with_target: HashSet<u32> = edges.iter().map(|&(source, _)| source).collect();
        // Edges ascend, so one edge back from each node but the first leads to the first, and likewise forward.
        let last = nodes.len() as u32 - 1;
        assert!((1..=last).all(|v| with_source.contains(&v)), "{net}");
        assert!((0..last).all(|v| with_target.contains(&v)), "{net}");
        let inputs = nodes.iter().filter(|node| node.primitive == Primitive::Input).count();
        assert!(inputs == 1 && nodes[0].primitive == Primitive::Input, "{net}");
        let joins = nodes.iter().enumerate().filter(|(_, n)| matches!(n.primitive, Primitive::Sum | Primitive::Concat));
        for (v, node) in joins {
            let sources = edges.iter().filter(|&&(_, target)| target as usize == v).count();
            assert!(sources >= 2 && (sources == 2 || node.primitive == Primitive::Concat), "{net}: node {v}");
        }
    }
}

#[test]
fn parameters_nodes_and_layers_refer_to_each_other() {
    for (net, blueprint) in of_every_kind() {
        for (i, parameter) in blueprint.parameters.iter().enumerate() {
            let node = &blueprint.graph.nodes[parameter.node];
            assert_eq!((node.parameter, node.shape), (Some(i), Some(parameter.shape)), "{net}");
            let layer = &blueprint.layers[parameter.layer];
            let first = layer.parameter.unwrap();
            let (op, kinds): (_, &[_]) = match parameter.kind {
                ParameterKind::Norm => (layer.op == LayerOp::BatchNorm, &[ParameterKind::Norm]),
                ParameterKind::Weight
                    if parameter.layer + 1 < blueprint.layers.len() && layer.op != LayerOp::Linear =>
                {
                    (matches!(layer.op, LayerOp::Convolution(_)), &[ParameterKind::Weight])
                }
                _ => (layer.op == LayerOp::Linear, &[ParameterKind::Weight, ParameterKind::Bias]),
            };
            assert!(op && blueprint.parameters[first..][..kinds.len()].iter().map(|p| &p.kind).eq(kinds), "{net}");
        }
        for node in &blueprint.graph.nodes {
            assert_eq!(node.primitive.has_parameters(), node.parameter.is_some(), "{net}");
        }
        let classifier: Vec<_> = blueprint.graph.nodes.iter().rev().map(|node| node.classifier).collect();
        assert!(classifier.iter().enumerate().all(|(i, &flag)| flag == (i < 2)), "{net}");
        let names = blueprint.parameters.iter().flat_map(|p| blueprint.tensor_names(p));
        assert_eq!(names.clone().collect::<HashSet<_>>().len(), names.count(), "{net}");
        assert!(blueprint.parameter_count() <= blueprint.declared_parameters, "{net}");
    }
}

#[test]
fn layers_are_ordered_used_and_of_the_shape_they_say() {
    for (net, blueprint) in of_every_kind() {
        let mut used = vec![false; blueprint.layers.len() + 1];
        let mut rectified = HashSet::new();
        for (i, layer) in blueprint.layers.iter().enumerate() {
            assert!(layer.inputs.iter().all(|&input| input <= i), "{net}: {}", layer.name);
            layer.inputs.iter().for_each(|&input| used[input] = true);
            assert!(layer.op != LayerOp::Relu || rectified.insert(layer.inputs[0]), "{net}: {}", layer.name);
            let shapes: Vec<_> = layer.inputs.iter().map(|&input| blueprint.shape(input)).collect();
            let parameter = layer.parameter.map(|p| blueprint.parameters[p].shape);
            let halved = |stride: usize| shapes[0].map(|n| n / stride);
            let expected = match layer.op {
                LayerOp::Zeros => layer.shape,
                LayerOp::Convolution(conv) => {
                    let [k, columns, r, s] = parameter.unwrap();
                    assert_eq!([r, s], [conv.kernel; 2], "{net}: {}", layer.name);
                    assert_eq!(columns, if conv.depthwise { 1 } else { shapes[0][0] }, "{net}: {}", layer.name);
                    // Windows that are centred: with even extents, stride 2 halves them exactly.
                    assert!(conv.padding * 2 == conv.dilation * (conv.kernel - 1), "{net}: {}", layer.name);
                    [k, halved(conv.stride)[1], halved(conv.stride)[2]]
                }
                LayerOp::MaxPool { stride } | LayerOp::AveragePool { stride } => {
                    [shapes[0][0], halved(stride)[1], halved(stride)[2]]
                }
                LayerOp::Linear => {
                    assert_eq!(parameter.unwrap()[1..], shapes[0], "{net}: {}", layer.name);
                    [parameter.unwrap()[0], 1, 1]
                }
                LayerOp::Concat => [shapes.iter().map(|shape| shape[0]).sum(), shapes[0][1], shapes[0][2]],
                LayerOp::GlobalAverage => [shapes[0][0], 1, 1],
                LayerOp::Flatten => [shapes[0].iter().product(), 1, 1],
                LayerOp::Relu | LayerOp::BatchNorm | LayerOp::Add | LayerOp::Dropout => shapes[0],
            };
            assert_eq!(layer.shape, expected, "{net}: {}", layer.name);
            assert!(shapes.iter().all(|shape| shape[1..] == shapes[0][1..]), "{net}: {}", layer.name);
        }
        assert!(used[..blueprint.layers.len()].iter().all(|&used| used), "{net}");
        assert_eq!(blueprint.layers.last().unwrap().shape, [10, 1, 1]);
    }
}

/// Shortest paths the slow way: every pair, one edge more in each round.
fn distances(graph: &Graph) -> Vec<Vec<u32>> {
    let n = graph.nodes.len();
    let mut distance = vec![vec![u32::MAX; n]; n];
    (0..n).for_each(|v| distance[v][v] = 0);
    for &(source, target) in &graph.edges {
        let through = distance[source as usize].clone();
        for (shortest, through) in distance[target as usize].iter_mut().zip(through) {
            *shortest = through.saturating_add(1).min(*shortest);
        }
    }
    distance
}

#[test]
fn virtual_edges_are_shortest_paths() {
    for (net, blueprint) in of_every_kind().step_by(7) {
        let graph = &blueprint.graph;
        let distance = distances(graph);
        for s_max in [1, 3, 10, 255] {
            let incoming = graph.incoming(s_max);
            for (v, row) in distance.iter().enumerate() {
                let near = |&(_, &d): &(usize, &u32)| d > 0 && d <= u32::from(s_max);
                let expected = row.iter().enumerate().filter(near).map(|(u, &d)| (u, d as u8));
                assert!(incoming.of(v).eq(expected), "{net}: node {v}");
            }
            assert_eq!(incoming.transposed().transposed(), incoming, "{net}");
        }
    }
}

#[test]
fn nobody_hears_from_its_own_level_or_a_later_one() {
    let blueprints: Vec<Blueprint> = of_every_kind().step_by(9).map(|(_, blueprint)| blueprint).collect();
    let batch = GraphBatch::new(blueprints.iter().map(|blueprint| &blueprint.graph), 10);
    assert_eq!(batch.nodes(), *batch.starts.last().unwrap());
    for (levels, heard) in [(&batch.forward, &batch.incoming), (&batch.backward, &batch.outgoing)] {
        let mut level_of = vec![usize::MAX; batch.nodes()];
        for (level, nodes) in levels.iter().enumerate() {
            nodes.iter().for_each(|&v| level_of[v as usize] = level);
        }
        let deepest = (0..batch.nodes()).all(|v| match level_of[v] {
            0 => heard.of(v).next().is_none(),
            level => heard.of(v).map(|(u, _)| level_of[u]).max() == Some(level - 1),
        });
        assert!(deepest, "a level is one more than the highest of those that are heard");
    }
    for (b, blueprint) in blueprints.iter().enumerate() {
        let own = blueprint.graph.incoming(10);
        let start = batch.starts[b];
        for v in 0..blueprint.graph.nodes.len() {
            assert!(batch.incoming.of(start + v).eq(own.of(v).map(|(u, d)| (start + u, d))));
            assert!(batch.outgoing.of(start + v).all(|(u, d)| batch.incoming.of(u).any(|e| e == (start + v, d))));
        }
    }
}

#[test]
fn drawings_show_every_node_and_edge() {
    for net in [net_a(), net_b(), net_with_zeros()] {
        let blueprint = build(&net);
        let text = svg(&blueprint, "A & B <1>");
        assert_eq!(text.matches("<g><title>").count(), blueprint.graph.nodes.len());
        assert_eq!(text.matches("<path d=\"M").count(), blueprint.graph.edges.len());
        assert!(text.contains("A &amp; B &lt;1&gt;") && text.contains("head.linear"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "places are numbers");
    }
}
