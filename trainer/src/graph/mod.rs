//! Design spaces.
mod architecture;
mod blueprint;
mod build;
#[allow(clippy::module_inception)]
mod graph;
mod primitive;
pub use architecture::*;
pub use blueprint::*;
pub use build::*;
pub use graph::*;
pub use primitive::*;
#[cfg(test)]
mod tests;
