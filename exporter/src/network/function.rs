//! Functions of one value. Enters: the function with its parameters, and a value. Leaves: what it makes of it. Refuses
//! nothing; parameters that are not finite are refused by [`super::Network::check`].
//!
//! In integers each is a table ([`crate::quantize::function_table`]), so that what it computes has to be the same wherever a
//! table is made: in binary64, rounded once.

use serde::{Deserialize, Serialize};

/// An activation function other than a clamp, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Function {
    /// `x`, or `alpha * x` below 0 (ONNX LeakyRelu, opset 16).
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))` (ONNX Sigmoid, opset 13).
    Sigmoid,
    /// `min(max(alpha * x + beta, 0), 1)` (ONNX HardSigmoid, opset 6).
    HardSigmoid {
        /// Slope between the limits.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x * HardSigmoid(x)` with slope 1/6 and value 1/2 at 0 (ONNX HardSwish, opset 14).
    HardSwish,
    /// `x * Sigmoid(x)`, which ONNX writes as these two operators.
    Silu,
    /// Hyperbolic tangent (ONNX Tanh, opset 13).
    Tanh,
}

impl Function {
    /// The ONNX operator's name, where there is one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Sigmoid => "Sigmoid",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Silu => "Silu",
            Self::Tanh => "Tanh",
        }
    }

    /// The function's value at `x`, which is finite.
    pub fn apply(self, x: f32) -> f32 {
        let x = f64::from(x);
        let sigmoid = || 1.0 / (1.0 + (-x).exp());
        let ramp = |alpha: f64, beta: f64| (alpha * x + beta).clamp(0.0, 1.0);
        let y = match self {
            Self::LeakyRelu { alpha } => x * if x < 0.0 { f64::from(alpha) } else { 1.0 },
            Self::Sigmoid => sigmoid(),
            Self::HardSigmoid { alpha, beta } => ramp(alpha.into(), beta.into()),
            Self::HardSwish => x * ramp(1.0 / 6.0, 0.5),
            Self::Silu => x * sigmoid(),
            Self::Tanh => x.tanh(),
        };
        y as f32
    }

    /// Its parameters, with their names.
    pub(super) fn parameters(self) -> Vec<(&'static str, f32)> {
        match self {
            Self::LeakyRelu { alpha } => vec![("alpha", alpha)],
            Self::HardSigmoid { alpha, beta } => vec![("alpha", alpha), ("beta", beta)],
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Function::*;

    #[test]
    fn values_by_hand() {
        let values = [
            (LeakyRelu { alpha: 0.25 }, -2.0, -0.5),
            (LeakyRelu { alpha: 0.25 }, 3.0, 3.0),
            (Sigmoid, 0.0, 0.5),
            (Sigmoid, -1000.0, 0.0),
            (HardSigmoid { alpha: 0.2, beta: 0.5 }, 1.0, 0.7),
            (HardSigmoid { alpha: 0.2, beta: 0.5 }, 9.0, 1.0),
            (HardSwish, -3.0, 0.0),
            (HardSwish, 1.0, 2.0 / 3.0),
            (HardSwish, 7.0, 7.0),
            (Silu, 0.0, 0.0),
            (Silu, 2.0, 1.761_594_2),
            (Tanh, 1.0, 0.761_594_2),
        ];
        for (function, x, expected) in values {
            assert_eq!(function.apply(x), expected, "{function:?} of {x}");
        }
    }
}
