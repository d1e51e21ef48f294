//! Labelled images, as bytes, for training, calibration and every check.
//!
//! *Enters*: a path or a name, through [`open`]: CIFAR-10 in its binary form ([`cifar`]), a folder of class folders
//! ([`folder`]), or `shapes10`, which the program draws itself ([`shapes10`]). *Leaves*: a [`Dataset`] of RGB bytes,
//! all of one size; [`Preprocessing`](crate::network::Preprocessing) turns its pixels into the input of a network.
//! *Refused* with a [`DataError`] that names file, place, found and expected: whatever is missing, truncated, unreadable
//! or ambiguous. What is harmless but left unread is told in [`Dataset::notes`].
//!
//! Pixels are stored as `N H W 3`, red first, `0..=255`; networks read `C H W`.

pub mod cifar;
pub mod folder;
pub mod shapes10;

mod choice;
mod dataset;
mod error;
mod open;
mod picture;
mod preprocessing;
mod random;

pub use dataset::Dataset;
pub use error::{DataError, Unreadable};
pub use open::{Options, Split, open};
pub use picture::read_image;
pub use preprocessing::{CIFAR10, SHAPES10, Standard};

#[cfg(test)]
mod tests;
