//! What a tensor's channels hold, before BatchNorm. Enters: a burn tensor. Leaves: statistics, and the range that the normalized
//! tensor will have. Refuses nothing: what is not finite shows in the range.

use super::kernels::norm::scale_and_shift;
use super::{NormOptions, TrainOps};
use burn::backend::Dispatch;
use burn::tensor::Tensor;

/// Of each channel.
#[derive(Clone, Debug)]
pub struct Survey {
    /// `2C`: means, then biased variances; on the tape if the tensor is, without gradient.
    pub statistics: Tensor<1>,
    /// `4C`: the same, then the smallest and the largest values.
    found: Vec<f32>,
}

/// Looks at `x`, `N C H W`.
pub fn survey(x: Tensor<4>) -> Survey {
    let c = x.dims()[1];
    let all: Tensor<1> = Tensor::from_dispatch(Dispatch::train_survey(x.into_dispatch()));
    let found = all.to_data().try_to_vec::<f32>().expect("the backend computes in f32");
    Survey { statistics: all.narrow(0, 0, 2 * c), found }
}

impl Survey {
    /// Smallest and largest value of [`super::normalize`] with these statistics (means, then variances), before its quantizer; NaN
    /// if any value is not finite.
    pub fn range(&self, gamma: &[f32], beta: &[f32], statistics: &[f32], options: &NormOptions) -> [f32; 2] {
        let c = gamma.len();
        if !self.found.iter().chain(statistics).all(|v| v.is_finite()) {
            return [f32::NAN; 2];
        }
        let mut range = [f32::INFINITY, f32::NEG_INFINITY];
        for i in 0..c {
            let (scale, shift) = scale_and_shift(gamma[i], beta[i], statistics[i], statistics[c + i], options.epsilon);
            // The kernel's own arithmetic, which keeps order or turns it.
            for x in [self.found[2 * c + i], self.found[3 * c + i]] {
                let y = x.mul_add(scale, shift).max(options.limits[0]).min(options.limits[1]);
                range = [range[0].min(y), range[1].max(y)];
            }
        }
        range
    }
}
