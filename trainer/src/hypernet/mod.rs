//! GHN-2: a network that predicts the parameters of networks it has never seen.
//!
//! *Enters*: blueprints ([`crate::graph`]) with the bit widths they will run at ([`Setting`]). *Leaves*: a value for every
//! parameter of each ([`predict`]); and, from the gradients of those, the hypernetwork's own ([`Prediction::backward`]).
//! *Refused*: networks for other classes or with larger kernels, files that hold no hypernetwork.
//!
//! The hypernetwork is small and made of many dependent steps, so it always runs on the CPU, with gradients written out;
//! the networks that it predicts run wherever burn does. The tape is cut at the predicted tensors: each network is
//! differentiated by itself, and the sum of `p * dp` over all of them once through the hypernetwork.

mod decode;
mod execute;
mod file;
mod gnn;
mod linear;
mod norm_free;
mod parameters;
mod predict;
mod setting;
mod start;
#[cfg(test)]
mod tests;
pub mod train;
mod vectors;

pub use execute::{Leaves, Mode, Normalization, Ranges, Rounding, cross_entropy, deviations, logits};
pub use file::{FileError, Saved, from_bytes, load, save};
pub use norm_free::NormFree;
pub use parameters::{CHANNELS, Config, Entry, HIDDEN, Parameters};
pub use predict::{PredictError, Prediction, Tensors, predict};
pub use setting::{Setting, SettingError};
pub use start::{Start, StartError, deployed};
