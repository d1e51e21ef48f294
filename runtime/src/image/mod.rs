//! The flash image: what is stored, how it is written, how it is read in place.
pub mod repr;
