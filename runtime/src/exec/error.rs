//! What a session refuses.

use core::fmt;

/// Why a session cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The arena is too small.
    Arena {
        /// Its bytes.
        found: usize,
        /// Bytes that the image needs.
        expected: usize,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Arena { found, expected } = self;
        write!(f, "arena of {found} bytes, expected at least {expected}")
    }
}

impl core::error::Error for SessionError {}

/// Why a picture cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The picture has another size than the network's input.
    InputLength {
        /// Bytes given.
        found: usize,
        /// `H * W * C` of the input.
        expected: usize,
    },
    /// An integer that the input's encoding does not hold.
    InputValue {
        /// Its index.
        index: usize,
        /// The integer.
        found: i32,
        /// Least and greatest of the encoding.
        expected: [i32; 2],
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputLength { found, expected } => {
                write!(f, "input of {found} bytes, expected {expected} (height * width * channels)")
            }
            Self::InputValue { index, found, expected: [low, high] } => {
                write!(f, "input integer {index}: found {found}, expected {low} to {high}")
            }
        }
    }
}

impl core::error::Error for RunError {}
