//! Two networks, counted by the reference implementation of GHN-2.

use super::*;

/// Nodes, levels, edges up to distance 1, 10 and 50, parameters, multiply-accumulates.
fn counts(blueprint: &Blueprint) -> ([usize; 5], u64, [u64; 3]) {
    let graph = &blueprint.graph;
    let edges = |s_max| graph.incoming(s_max).neighbours.len();
    let levels = graph.forward().len();
    assert_eq!(levels, graph.backward().len(), "the longest path has one length");
    assert_eq!(edges(1), graph.edges.len());
    let macs = blueprint.macs();
    let graph = [graph.nodes.len(), levels, edges(1), edges(10), edges(50)];
    (graph, blueprint.parameter_count(), [macs.convolution, macs.depthwise, macs.linear])
}

#[test]
fn net_a_as_counted_by_the_reference() {
    let expected = ([64, 37, 72, 960, 1648], 562_458, [24_952_832, 184_320, 8_832]);
    assert_eq!(counts(&build(&net_a())), expected);
}

#[test]
fn net_b_as_counted_by_the_reference() {
    let expected = ([50, 32, 61, 813, 1026], 192_266, [11_829_248, 440_320, 2_560]);
    assert_eq!(counts(&build(&net_b())), expected);
}

#[test]
fn shapes_of_parameters() {
    for (architecture, expected) in [
        (
            net_a(),
            [
                ("stem.0.conv", [16, 3, 3, 3]),
                ("cell0.step0.left.0.depthwise", [32, 1, 3, 3]),
                ("cell2.input0.even", [64, 32, 1, 1]),
                ("cell3.step0.right.conv", [128, 128, 5, 5]),
                ("head.linear1", [10, 64, 1, 1]),
            ],
        ),
        (
            net_b(),
            [
                ("stem.conv", [96, 3, 3, 3]),
                ("cell0.step0.left.0.depthwise", [32, 1, 3, 3]),
                ("cell2.input0.even", [64, 64, 1, 1]),
                ("cell3.step0.right.depthwise", [128, 1, 5, 5]),
                ("head.linear0", [10, 256, 1, 1]),
            ],
        ),
    ] {
        let blueprint = build(&architecture);
        for (name, shape) in expected {
            let layer = blueprint.layers.iter().find(|layer| layer.name == name).unwrap();
            assert_eq!(blueprint.parameters[layer.parameter.unwrap()].shape, shape, "{name}");
        }
    }
}
