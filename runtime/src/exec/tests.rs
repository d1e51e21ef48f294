//! Runs of whole images.
