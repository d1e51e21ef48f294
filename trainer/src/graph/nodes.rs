//! The hypernetwork's graph of one network: nodes, edges along the data flow, shortest paths and levels. Enters: nodes and
//! edges in topological order. Leaves: virtual edges up to a distance, and the schedule of the level-synchronous form of
//! the gated graph network. Refuses nothing; a graph that is not topologically ordered cannot be made.

use super::Primitive;

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type.
    pub primitive: Primitive,
    /// What the shape embedding reads: `K C R S` of a weight, `C 1 1 1` of BatchNorm and bias, `1 1 3 3` of pooling; `None`
    /// for the others.
    pub shape: Option<[usize; 4]>,
    /// Index of the parameter that it stands for.
    pub parameter: Option<usize>,
    /// Whether it is the weight or the bias of the last linear layer, which have decoders of their own.
    pub classifier: bool,
}

/// A directed acyclic graph; every node lies on a path from node 0, the input, to the last, the classifier's bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// In topological order.
    pub nodes: Vec<Node>,
    /// `(source, target)` with `source < target`, in order of target, then source; none twice.
    pub edges: Vec<(u32, u32)>,
}

/// For each node its neighbours with distances, all in one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjacency {
    /// Node `v` owns `neighbours[offsets[v]..offsets[v + 1]]`.
    pub offsets: Vec<u32>,
    /// In ascending order for each node.
    pub neighbours: Vec<u32>,
    /// Length of the shortest directed path to (or from) each neighbour, at least 1; 1 is a real edge.
    pub distances: Vec<u8>,
}

/// Nodes grouped by level: a node's level exceeds that of all nodes it hears from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Level `l` is `nodes[offsets[l]..offsets[l + 1]]`.
    pub offsets: Vec<u32>,
    /// All nodes, by level, then in ascending order.
    pub nodes: Vec<u32>,
}

impl Adjacency {
    /// Neighbours of `node` with their distances.
    pub fn of(&self, node: usize) -> impl Iterator<Item = (usize, u8)> + '_ {
        let range = self.offsets[node] as usize..self.offsets[node + 1] as usize;
        self.neighbours[range.clone()].iter().zip(&self.distances[range]).map(|(&v, &d)| (v as usize, d))
    }

    /// The same edges, seen from the other end.
    pub fn transposed(&self) -> Self {
        let nodes = self.offsets.len() - 1;
        let mut offsets = vec![0u32; nodes + 1];
        for &neighbour in &self.neighbours {
            offsets[neighbour as usize + 1] += 1;
        }
        for v in 0..nodes {
            offsets[v + 1] += offsets[v];
        }
        let mut next = offsets.clone();
        let mut neighbours = vec![0; self.neighbours.len()];
        let mut distances = vec![0; self.distances.len()];
        for v in 0..nodes {
            for (u, distance) in self.of(v) {
                let slot = next[u] as usize;
                (neighbours[slot], distances[slot]) = (v as u32, distance);
                next[u] += 1;
            }
        }
        Self { offsets, neighbours, distances }
    }
}

impl Levels {
    /// Groups nodes by their level.
    pub(super) fn group(level_of: &[u32]) -> Self {
        let levels = level_of.iter().max().map_or(0, |&l| l as usize + 1);
        let mut offsets = vec![0u32; levels + 1];
        for &level in level_of {
            offsets[level as usize + 1] += 1;
        }
        for l in 0..levels {
            offsets[l + 1] += offsets[l];
        }
        let mut next = offsets.clone();
        let mut nodes = vec![0; level_of.len()];
        for (v, &level) in level_of.iter().enumerate() {
            nodes[next[level as usize] as usize] = v as u32;
            next[level as usize] += 1;
        }
        Self { offsets, nodes }
    }

    /// Number of levels.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Nodes of each level, from level 0 on.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|range| &self.nodes[range[0] as usize..range[1] as usize])
    }
}

impl Graph {
    /// Level of each node going forward: 0 for the input, else one more than the highest predecessor's.
    pub fn levels_forward(&self) -> Vec<u32> {
        let mut level = vec![0; self.nodes.len()];
        for &(source, target) in &self.edges {
            level[target as usize] = level[target as usize].max(level[source as usize] + 1);
        }
        level
    }

    /// Level of each node going backward: 0 for the output, else one more than the highest successor's.
    pub fn levels_backward(&self) -> Vec<u32> {
        let mut level = vec![0; self.nodes.len()];
        for &(source, target) in self.edges.iter().rev() {
            level[source as usize] = level[source as usize].max(level[target as usize] + 1);
        }
        level
    }

    /// Schedule of the forward pass.
    pub fn forward(&self) -> Levels {
        Levels::group(&self.levels_forward())
    }

    /// Schedule of the backward pass.
    pub fn backward(&self) -> Levels {
        Levels::group(&self.levels_backward())
    }

    /// For each node all nodes with a path to it of at most `s_max` edges: real edges (distance 1) and virtual ones.
    ///
    /// One breadth-first search for each node. The paper uses 10, GHN-2 50; with 1 there are no virtual edges.
    pub fn incoming(&self, s_max: u8) -> Adjacency {
        let n = self.nodes.len();
        let mut first = vec![0u32; n + 1];
        for &(_, target) in &self.edges {
            first[target as usize + 1] += 1;
        }
        for v in 0..n {
            first[v + 1] += first[v];
        }
        let mut adjacency = Adjacency { offsets: vec![0], neighbours: Vec::new(), distances: Vec::new() };
        let mut distance = vec![0u8; n];
        let mut queue: Vec<u32> = Vec::new();
        for v in 0..n {
            queue.clear();
            queue.push(v as u32);
            let mut head = 0;
            while head < queue.len() {
                let u = queue[head] as usize;
                head += 1;
                if distance[u] == s_max {
                    break;
                }
                for &(source, _) in &self.edges[first[u] as usize..first[u + 1] as usize] {
                    if distance[source as usize] == 0 {
                        distance[source as usize] = distance[u] + 1;
                        queue.push(source);
                    }
                }
            }
            let found = &mut queue[1..];
            found.sort_unstable();
            for &mut u in found {
                adjacency.neighbours.push(u);
                adjacency.distances.push(std::mem::take(&mut distance[u as usize]));
            }
            adjacency.offsets.push(adjacency.neighbours.len() as u32);
        }
        adjacency
    }
}
