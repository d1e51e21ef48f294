//! Several graphs as one: what the hypernetwork runs on at once. Enters: graphs and the longest virtual edge. Leaves: their
//! disjoint union, with rows of the embeddings, neighbours in both directions and a schedule for each. Refuses nothing.

use super::nodes::{Adjacency, Graph, Levels};
use super::primitive::shape_rows;

/// The disjoint union of the graphs of a meta-batch. Nodes keep their order, one graph after the other.
///
/// A pass of the gated graph network goes through the levels of [`Self::forward`] with messages from [`Self::incoming`],
/// then through those of [`Self::backward`] with messages from [`Self::outgoing`]. No node hears from its own level, so all
/// nodes of a level are updated at once, with the result of going through the nodes one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphBatch {
    /// Nodes of graph `b` are `starts[b]..starts[b + 1]`.
    pub starts: Vec<usize>,
    /// For each node the row of the op embedding.
    pub op_rows: Vec<u8>,
    /// For each node the rows of channel, channel, kernel and kernel embedding.
    pub shape_rows: Vec<[u16; 4]>,
    /// Nodes with a path to each node.
    pub incoming: Adjacency,
    /// Nodes to which each node has a path.
    pub outgoing: Adjacency,
    /// Levels of the forward pass.
    pub forward: Levels,
    /// Levels of the backward pass.
    pub backward: Levels,
}

impl GraphBatch {
    /// Unites `graphs`, with virtual edges for paths of at most `s_max` edges.
    pub fn new<'g>(graphs: impl IntoIterator<Item = &'g Graph>, s_max: u8) -> Self {
        let (mut starts, mut op_rows, mut shapes) = (vec![0], Vec::new(), Vec::new());
        let mut incoming = Adjacency { offsets: vec![0], neighbours: Vec::new(), distances: Vec::new() };
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        for graph in graphs {
            let (nodes, edges) = (op_rows.len() as u32, incoming.neighbours.len() as u32);
            op_rows.extend(graph.nodes.iter().map(|node| node.primitive.row() as u8));
            shapes.extend(graph.nodes.iter().map(|node| shape_rows(node.shape)));
            let own = graph.incoming(s_max);
            incoming.offsets.extend(own.offsets[1..].iter().map(|offset| offset + edges));
            incoming.neighbours.extend(own.neighbours.iter().map(|node| node + nodes));
            incoming.distances.extend(own.distances);
            forward.extend(graph.levels_forward());
            backward.extend(graph.levels_backward());
            starts.push(op_rows.len());
        }
        let (forward, backward) = (Levels::group(&forward), Levels::group(&backward));
        let outgoing = incoming.transposed();
        Self { starts, op_rows, shape_rows: shapes, incoming, outgoing, forward, backward }
    }

    /// Nodes of all graphs.
    pub fn nodes(&self) -> usize {
        self.op_rows.len()
    }
}
