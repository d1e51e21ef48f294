//! What a network costs, and how such figures are spread over many. Enters: blueprints. Leaves: counts and percentiles,
//! for people and as JSON. Refused: plans of arenas that cannot be made.

use super::blueprint::Blueprint;
use super::network::{ArenaError, arena_bytes};
use super::primitive::Primitive;
use serde::Serialize;
use std::fmt;

/// Counts of one network, for one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Nodes of the graph.
    pub nodes: usize,
    /// Nodes with parameters.
    pub predicted_nodes: usize,
    /// Nodes on the longest path.
    pub depth: usize,
    /// Edges along the data flow.
    pub edges: usize,
    /// Pairs of nodes with a path of at most 10 edges: what the paper's hypernetwork passes messages along.
    pub edges_within_10: usize,
    /// Trainable values that the output depends on.
    pub parameters: u64,
    /// Trainable values of all layers.
    pub declared_parameters: u64,
    /// Multiply-accumulates of ungrouped convolutions.
    pub convolution_macs: u64,
    /// Multiply-accumulates of depthwise convolutions.
    pub depthwise_macs: u64,
    /// Multiply-accumulates of linear layers.
    pub linear_macs: u64,
    /// Convolutions.
    pub convolutions: usize,
    /// Convolutions that BatchNorm follows.
    pub normed_convolutions: usize,
    /// Arena of the flash image with 8-bit activations, in bytes.
    pub arena_bytes: u64,
    /// How many nodes there are of each primitive.
    pub census: Vec<(Primitive, usize)>,
}

impl Statistics {
    /// Counts.
    ///
    /// # Errors
    /// [`ArenaError`]: the arena cannot be planned.
    pub fn of(blueprint: &Blueprint) -> Result<Self, ArenaError> {
        let graph = &blueprint.graph;
        let macs = blueprint.macs();
        let (normed_convolutions, convolutions) = blueprint.normed_convolutions();
        Ok(Self {
            nodes: graph.nodes.len(),
            predicted_nodes: blueprint.parameters.len(),
            depth: graph.forward().len(),
            edges: graph.edges.len(),
            edges_within_10: graph.incoming(10).neighbours.len(),
            parameters: blueprint.parameter_count(),
            declared_parameters: blueprint.declared_parameters,
            convolution_macs: macs.convolution,
            depthwise_macs: macs.depthwise,
            linear_macs: macs.linear,
            convolutions,
            normed_convolutions,
            arena_bytes: arena_bytes(blueprint)?,
            census: blueprint.census(),
        })
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        self.convolution_macs + self.depthwise_macs + self.linear_macs
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "nodes       {:>11}  {} with parameters, longest path {}",
            self.nodes, self.predicted_nodes, self.depth
        )?;
        writeln!(f, "edges       {:>11}  {} pairs within 10", self.edges, self.edges_within_10)?;
        let unused = self.declared_parameters - self.parameters;
        writeln!(f, "parameters  {:>11}  and {unused} in layers that the output does not depend on", self.parameters)?;
        let [convolution, depthwise, linear] = [self.convolution_macs, self.depthwise_macs, self.linear_macs];
        writeln!(
            f,
            "MACs        {:>11}  {convolution} convolution, {depthwise} depthwise, {linear} linear",
            self.macs()
        )?;
        writeln!(f, "convolutions {:>10}  {} with BatchNorm", self.convolutions, self.normed_convolutions)?;
        writeln!(f, "arena bytes {:>11}", self.arena_bytes)?;
        let present: Vec<String> =
            self.census.iter().filter(|(_, n)| *n > 0).map(|(p, n)| format!("{n} {}", p.name())).collect();
        write!(f, "node types  {}", present.join(", "))
    }
}

/// How a figure is spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Smallest, 5th percentile, median, 95th percentile, largest; between two values the one below.
    pub percentiles: [f64; 5],
}

impl Spread {
    /// Of `values`; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { mean, percentiles: [0, 5, 50, 95, 100].map(|percent| values[last * percent / 100]) })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, low, median, high, max] = self.percentiles;
        let mean = self.mean;
        write!(f, "mean {mean:.0}, median {median:.0}, 5 to 95 % {low:.0} to {high:.0}, all {min:.0} to {max:.0}")
    }
}
