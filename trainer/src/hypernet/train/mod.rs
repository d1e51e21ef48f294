//! Training a hypernetwork. Enters: a [`Recipe`], images, networks to draw from. Leaves: checkpoints that go on to the same
//! bits, a log, the hypernetwork. Refused: recipes out of range, checkpoints of another recipe or other data.
//!
//! What step `i` does (which networks, images, changes to the images, bit widths, noise) depends on the seed and `i` alone.

mod adam;
mod describe;
mod noise;
mod recipe;
mod run;
mod step;

pub use describe::describe;
pub use noise::{Noise, Variance};
pub use recipe::{Fall, Recipe};
pub use run::{Event, Row, Run, State, TrainError, Window};
pub use step::{Images, Score, Workers, gradient};
