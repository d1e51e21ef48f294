//! What a network costs, and how such figures are spread over many. Enters: a blueprint, or a set. Leaves: counts and
//! percentiles, for people and as JSON. Refused: plans of arenas that cannot be made, with the network's number.

use super::blueprint::Blueprint;
use super::build::BuildError;
use super::file::GraphSet;
use super::network::{ArenaError, arena_bytes};
use super::primitive::Primitive;
use rayon::prelude::*;
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

/// Why a network of a set has no figures.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The task of the set fits it not.
    #[error("network {0}: {1}")]
    Build(usize, BuildError),
    /// Its arena cannot be planned.
    #[error("network {0}: {1}")]
    Arena(usize, ArenaError),
}

/// Something that is counted of one network.
type Figure = fn(&Statistics) -> u64;

/// Figures of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Networks in the set.
    pub networks: usize,
    /// Networks that the figures are of, taken from the set at equal distances.
    pub sampled: usize,
    /// Share of networks without BatchNorm.
    pub without_norm: f64,
    /// Share of networks with layers that the output does not depend on.
    pub with_unused_layers: f64,
    /// What is counted, and how it is spread; of [`Statistics`] and the arguments.
    pub spreads: Vec<(&'static str, Spread)>,
    /// Share of each primitive among the nodes of all networks.
    pub census: Vec<(Primitive, f64)>,
}

impl Summary {
    /// Figures of at most `most` networks of `set`; `None` if there is none.
    ///
    /// # Errors
    /// [`SummaryError`] with the network's number.
    pub fn of(set: &GraphSet, most: usize) -> Result<Option<Self>, SummaryError> {
        let sampled = most.min(set.len());
        let one = |i: usize| {
            let index = i * set.len() / sampled;
            let net = set.get(index).expect("an index below the length");
            let blueprint = Blueprint::build(&net, set.request().task).map_err(|e| SummaryError::Build(index, e))?;
            Ok((net, Statistics::of(&blueprint).map_err(|e| SummaryError::Arena(index, e))?))
        };
        let all: Vec<_> = (0..sampled).into_par_iter().map(one).collect::<Result<_, SummaryError>>()?;
        let share = |count: usize| count as f64 / sampled as f64;
        let mut spreads = Vec::new();
        let mut put = |name, values: Vec<f64>| spreads.extend(Spread::of(values).map(|spread| (name, spread)));
        let figures: [(_, Figure); 8] = [
            ("nodes", |s| s.nodes as u64),
            ("nodes with parameters", |s| s.predicted_nodes as u64),
            ("levels", |s| s.depth as u64),
            ("edges", |s| s.edges as u64),
            ("pairs within 10", |s| s.edges_within_10 as u64),
            ("parameters", |s| s.declared_parameters),
            ("MACs", Statistics::macs),
            ("arena bytes", |s| s.arena_bytes),
        ];
        put("cells", all.iter().map(|(net, _)| net.cells.into()).collect());
        put("width", all.iter().map(|(net, _)| net.width.into()).collect());
        for (name, figure) in figures {
            put(name, all.iter().map(|(_, statistics)| figure(statistics) as f64).collect());
        }
        let of = |p: usize| all.iter().map(|(_, statistics)| statistics.census[p].1).sum::<usize>() as f64;
        let nodes = all.iter().map(|(_, statistics)| statistics.nodes).sum::<usize>() as f64;
        let census = Primitive::ALL.into_iter().enumerate().map(|(p, primitive)| (primitive, of(p) / nodes)).collect();
        let unused = |s: &Statistics| s.parameters < s.declared_parameters;
        Ok((sampled > 0).then(|| Self {
            networks: set.len(),
            sampled,
            without_norm: share(all.iter().filter(|(net, _)| !net.batch_norm).count()),
            with_unused_layers: share(all.iter().filter(|(_, statistics)| unused(statistics)).count()),
            spreads,
            census,
        }))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [without, unused] = [self.without_norm, self.with_unused_layers].map(|share| share * 100.0);
        writeln!(f, "{} of {} networks looked at", self.sampled, self.networks)?;
        writeln!(f, "{without:.1} % without BatchNorm, {unused:.1} % with layers that the output does not depend on")?;
        for (name, spread) in &self.spreads {
            writeln!(f, "{name:<21}  {spread}")?;
        }
        let present = self.census.iter().filter(|(_, share)| *share > 0.0);
        let present: Vec<_> = present.map(|(p, share)| format!("{:.1} % {}", share * 100.0, p.name())).collect();
        write!(f, "{:<21}  {}", "node types", present.join(", "))
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
        let (mean, digits) = (self.mean, usize::from(self.mean < 1000.0));
        write!(f, "mean {mean:.digits$}, median {median:.0}, 5 to 95 % {low:.0} to {high:.0}, all {min:.0} to {max:.0}")
    }
}
