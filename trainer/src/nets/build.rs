//! Layers put together while their weights are drawn. Enters: a growing network. Leaves: the tensor that a block wrote.
//! Refused: what [`Network::push`] refuses.

use super::init::Init;
use exporter::network::{BatchNorm, Conv2d, Dense, Network, NetworkError, Op, TensorId, Window};
use rand_chacha::ChaCha8Rng;

/// A network under construction.
pub(super) struct Builder<'a> {
    pub network: Network,
    pub init: Init,
    pub rng: &'a mut ChaCha8Rng,
}

impl Builder<'_> {
    fn channels(&self, x: TensorId) -> usize {
        self.network.tensors[x].shape.c
    }

    /// Convolution and BatchNorm; `groups` is 1 or the number of input channels.
    pub(super) fn conv_norm(
        &mut self,
        name: &str,
        x: TensorId,
        out_channels: usize,
        window: Window,
        groups: usize,
    ) -> Result<TensorId, NetworkError> {
        let taps = window.kernel[0] * window.kernel[1];
        let fan_in = self.channels(x) / groups * taps;
        let fan_out = out_channels / groups * taps;
        let weight = self.init.draw(out_channels * fan_in, fan_in, fan_out, self.rng);
        let conv = Op::Conv2d(Conv2d { weight, bias: None, out_channels, window, groups, integers: None });
        let y = self.network.push(name, conv, &[x])?;
        let [gamma, beta, mean, variance] = [1.0, 0.0, 0.0, 1.0].map(|v| vec![v; out_channels]);
        let norm = Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, epsilon: 1e-5 });
        self.network.push(format!("{name}_norm"), norm, &[y])
    }

    /// Convolution, BatchNorm, ReLU.
    pub(super) fn conv_norm_relu(
        &mut self,
        name: &str,
        x: TensorId,
        out_channels: usize,
        window: Window,
        groups: usize,
    ) -> Result<TensorId, NetworkError> {
        let y = self.conv_norm(name, x, out_channels, window, groups)?;
        self.network.push(format!("{name}_relu"), Op::RELU, &[y])
    }

    /// Mean over the image, then a dense layer with one output for each class.
    pub(super) fn classifier(&mut self, x: TensorId, classes: usize) -> Result<TensorId, NetworkError> {
        let pooled = self.network.push("pool", Op::GlobalAveragePool, &[x])?;
        let features = self.channels(pooled);
        let weight = self.init.draw(classes * features, features, classes, self.rng);
        let bias = Some(vec![0.0; classes]);
        self.network.push("logits", Op::Dense(Dense { weight, bias, out_features: classes, integers: None }), &[pooled])
    }
}
