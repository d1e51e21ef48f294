//! From a data set to batches. Enters: bytes `N H W C`. Leaves: `N C H W` floats, shuffled, augmented and normalized.
//! Refuses nothing: the data set was checked when it was opened.
//!
//! What happens to an image depends on the seed, the epoch and its index alone, never on its place in a batch or on
//! threads.

mod augment;
mod batches;
#[cfg(test)]
mod tests;

pub use augment::Augment;
pub use batches::{augmented, order, plain, spread};
