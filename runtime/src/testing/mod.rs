//! Images made by code, for tests. Enters: layers as plain integers in ONNX layout, or a seed. Leaves: the bytes of an
//! image. Nothing is refused: an image that makes no sense is what some tests want.

mod builder;
mod draw;
mod exercise;
mod zoo;

pub use builder::{Builder, Encoding, Layer};
pub use draw::Draw;
pub use exercise::exercise;
pub use zoo::{lookup, lookup_builder, zoo, zoo_builder, zoo_packed};
