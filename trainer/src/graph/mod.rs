//! Design spaces.
mod architecture;
mod blueprint;
mod build;
mod code;
mod file;
#[allow(clippy::module_inception)]
mod graph;
mod network;
mod primitive;
mod random;
mod sample;
mod space;
pub use architecture::*;
pub use blueprint::*;
pub use build::*;
pub use code::*;
pub use file::*;
pub use graph::*;
pub use network::*;
pub use primitive::*;
pub use sample::*;
pub use space::*;
#[cfg(test)]
mod tests;
