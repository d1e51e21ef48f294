//! Design spaces: which networks there are, and what each is made of.
//!
//! *Enters*: a [`Request`] (space, split, seed), or a file written before. *Leaves*: [`Architecture`]s, about twenty bytes
//! each, in a [`GraphSet`]; and what one expands to, a [`Blueprint`]: the layers to run, the parameters to fill, the
//! hypernetwork's [`Graph`] with shortest paths and levels ([`GraphBatch`]), the exporter's network
//! ([`Blueprint::to_network`]), [`Statistics`] and a drawing ([`svg`]). *Refused*: arguments that make no network, caps that
//! hardly any network keeps, files that are damaged or foreign.
//!
//! The same request gives the same bytes for any number of threads: network `i` depends on the seed and `i` alone.
//!
//! ```text
//! Request --Sampler--> GraphSet --get(i)--> Architecture --Blueprint::build--> layers, parameters, graph
//! ```

mod architecture;
mod batch;
mod blueprint;
mod build;
mod code;
mod drawing;
mod file;
mod network;
mod nodes;
mod primitive;
mod random;
mod sample;
mod space;
mod statistics;
#[cfg(test)]
mod tests;

pub use architecture::{Architecture, ArchitectureError, CellOp, Stem, Step};
pub use batch::GraphBatch;
pub use blueprint::{Blueprint, Convolution, Layer, LayerOp, Macs, Parameter, ParameterKind, Task, ValueId};
pub use build::BuildError;
pub use code::CodeError;
pub use drawing::svg;
pub use file::{GraphSet, GraphSetError};
pub use network::{ArenaError, EPSILON, Fill, arena_bytes};
pub use nodes::{Adjacency, Graph, Levels, Node};
pub use primitive::{CHANNEL_ROWS, KERNEL_ROWS, Primitive, channel_row, kernel_row, shape_rows};
pub use sample::{Rejection, Request, SampleError, Sampler, Tally};
pub use space::{Caps, NameError, Space, Split, Switches};
pub use statistics::{Spread, Statistics, Summary, SummaryError};
