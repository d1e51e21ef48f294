//! Shape of one activation. Enters: three extents. Leaves: counts and text. Refuses nothing; zero extents are refused
//! by [`super::Network::check`].

use serde::{Deserialize, Serialize};

/// `C H W` of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Channels, or features of a vector.
    pub c: usize,
    /// Height in pixels; 1 for a vector.
    pub h: usize,
    /// Width in pixels; 1 for a vector.
    pub w: usize,
}

impl Shape {
    /// `C H W`.
    pub const fn new(c: usize, h: usize, w: usize) -> Self {
        Self { c, h, w }
    }

    /// A vector of `c` features.
    pub const fn vector(c: usize) -> Self {
        Self { c, h: 1, w: 1 }
    }

    /// Elements.
    pub const fn len(&self) -> usize {
        self.c * self.h * self.w
    }

    /// Whether there is no element at all.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels of one channel.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.c, self.h, self.w)
    }
}
