//! The learning rate. Enters: a stage and the step within it. Leaves: the rate. Nothing is refused.

use super::Stage;
use serde::{Deserialize, Serialize};

/// How the rate falls from its highest within a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Along half a cosine, to 0 after the last step.
    Cosine,
    /// Multiplied with `factor` at each of these shares of the stage.
    Steps {
        /// Shares, `0..1`.
        at: Vec<f32>,
        /// Usually 0.1.
        factor: f32,
    },
}

impl Schedule {
    /// The rate of `step` out of `steps` of a stage.
    pub fn rate(&self, stage: &Stage, step: u64, steps: u64) -> f32 {
        let warm = if step < stage.warmup { (step + 1) as f64 / stage.warmup as f64 } else { 1.0 };
        let share = step as f64 / steps.max(1) as f64;
        let factor = match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * share).cos()),
            Self::Steps { at, factor } => {
                f64::from(*factor).powi(at.iter().filter(|&&at| share >= f64::from(at)).count() as i32)
            }
        };
        (f64::from(stage.rate) * warm * factor) as f32
    }
}
