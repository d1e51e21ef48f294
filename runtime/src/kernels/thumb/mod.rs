//! The inner loops of a core with neither DSP instructions nor a float unit: a Cortex-M0, M0+, M3. What they have is a multiplication
//! of 32 bits. Elements of two pixels lie in one word, of which only one has to be taken out: `p = x0 + 2^16 x1`, both without a
//! sign, and with `S = sum w p` and `T = sum w x1`, modulo 2^32, `sum w x0 = S - 2^16 T`. Enters: columns of raw bytes, each widened
//! to 16 bits, four pixels side by side; rows of weights of 8, 4 or 2 bits. Leaves: stored integers. Refuses nothing.

#[cfg(intact_thumb)]
mod core;
#[cfg(any(test, feature = "testing"))]
mod model;

#[cfg(intact_thumb)]
pub(super) use self::core::Core as Instructions;
#[cfg(not(intact_thumb))]
pub(super) use model::Model as Instructions;

use super::channels::Depthwise;

/// Bytes of four columns for an element: two words.
const ELEMENT: usize = 8;
