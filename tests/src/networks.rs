//! Networks that runtimes are compared with, with drawn weights: three of MLPerf Tiny, and larger ones for hosts. Enters: nothing.
//! Leaves: float networks of exactly their shapes, and pictures.

use exporter::network::{Conv2d, Dense, Network, Op, Preprocessing, Shape, TensorId, Window};

/// A network in the making, and the source of its weights.
struct Net {
    network: Network,
    state: u64,
}

impl Net {
    fn new(name: &str, input: Shape) -> Self {
        let preprocessing = Preprocessing { mean: vec![0.5; input.c], std: vec![0.25; input.c] };
        Self { network: Network::new(name, input, preprocessing, Vec::new()), state: 1 }
    }

    /// In `-most ..= most`.
    fn values(&mut self, count: usize, most: f32) -> Vec<f32> {
        let mut draw = || {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| most * draw()).collect()
    }

    fn push(&mut self, op: Op, inputs: &[TensorId]) -> TensorId {
        let name = format!("{}_{}", op.name(), self.network.nodes.len());
        self.network.push(name, op, inputs).unwrap()
    }

    /// A convolution, and the ReLU that is fused with it.
    fn conv(&mut self, x: TensorId, out_channels: usize, groups: usize, window: Window) -> TensorId {
        let y = self.linear(x, out_channels, groups, window);
        self.push(Op::RELU, &[y])
    }

    fn linear(&mut self, x: TensorId, out_channels: usize, groups: usize, window: Window) -> TensorId {
        let taps = self.network.tensors[x].shape.c / groups * window.kernel[0] * window.kernel[1];
        let weight = self.values(out_channels * taps, (6.0 / taps as f32).sqrt());
        let bias = Some(self.values(out_channels, 0.2));
        self.push(Op::Conv2d(Conv2d { weight, bias, out_channels, window, groups, integers: None }), &[x])
    }

    /// Two convolutions of 3 x 3, added to what they read, or to a convolution of one pixel of it where the stride is not 1.
    fn residual(&mut self, x: TensorId, channels: usize, stride: usize) -> TensorId {
        let first = self.conv(x, channels, 1, Self::three(stride));
        let second = self.linear(first, channels, 1, Self::three(1));
        let point = Window { stride: [stride; 2], ..Window::square(1, 1, 0) };
        let shortcut = if stride == 1 { x } else { self.linear(x, channels, 1, point) };
        let sum = self.push(Op::Add, &[second, shortcut]);
        self.push(Op::RELU, &[sum])
    }

    fn classifier(mut self, x: TensorId, out_features: usize) -> Network {
        let mean = self.push(Op::GlobalAveragePool, &[x]);
        let channels = self.network.tensors[mean].shape.len();
        let weight = self.values(out_features * channels, (3.0 / channels as f32).sqrt());
        let bias = Some(self.values(out_features, 0.2));
        self.push(Op::Dense(Dense { weight, bias, out_features, integers: None }), &[mean]);
        self.network
    }

    /// A 3 x 3 window that keeps the extent, or halves an even one as TensorFlow does: padded below and on the right.
    fn three(stride: usize) -> Window {
        let before = if stride == 1 { 1 } else { 0 };
        Window { stride: [stride; 2], padding: [before, before, 1, 1], ..Window::square(3, 1, 0) }
    }
}

/// ResNet-8: 32 x 32 RGB, 10 classes, 12.5 million multiplications.
pub fn resnet8() -> Network {
    let mut net = Net::new("resnet8", Shape::new(3, 32, 32));
    let mut x = net.conv(0, 16, 1, Net::three(1));
    for (channels, stride) in [(16, 1), (32, 2), (64, 2)] {
        x = net.residual(x, channels, stride);
    }
    net.classifier(x, 10)
}

/// MobileNetV1 with a quarter of its channels: 96 x 96 RGB, 2 classes, 7.5 million multiplications.
pub fn mobilenet() -> Network {
    let mut net = Net::new("mobilenetv1-0.25", Shape::new(3, 96, 96));
    let mut x = net.conv(0, 8, 1, Net::three(2));
    let mut channels = 8;
    let blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)];
    for (out, stride) in blocks.into_iter().chain([(128, 1); 5]).chain([(256, 2), (256, 1)]) {
        x = net.conv(x, channels, channels, Net::three(stride));
        x = net.conv(x, out, 1, Window::square(1, 1, 0));
        channels = out;
    }
    net.classifier(x, 2)
}

/// DS-CNN: 49 frames of 10 coefficients, 12 classes, 2.7 million multiplications.
pub fn ds_cnn() -> Network {
    let mut net = Net::new("ds-cnn", Shape::new(1, 49, 10));
    let window = Window { kernel: [10, 4], stride: [2; 2], padding: [4, 1, 5, 1], dilation: [1; 2] };
    let mut x = net.conv(0, 64, 1, window);
    for _ in 0..4 {
        x = net.conv(x, 64, 64, Net::three(1));
        x = net.conv(x, 64, 1, Window::square(1, 1, 0));
    }
    net.classifier(x, 12)
}

/// ResNet-20: 32 x 32 RGB, 10 classes, 40.8 million multiplications.
pub fn resnet20() -> Network {
    let mut net = Net::new("resnet20", Shape::new(3, 32, 32));
    let mut x = net.conv(0, 16, 1, Net::three(1));
    for channels in [16, 32, 64] {
        for block in 0..3 {
            let stride = if channels > 16 && block == 0 { 2 } else { 1 };
            x = net.residual(x, channels, stride);
        }
    }
    net.classifier(x, 10)
}

/// MobileNetV2 with all of its channels and the strides usual for CIFAR: 32 x 32 RGB, 10 classes, 88 million multiplications.
pub fn mobilenet_v2() -> Network {
    let mut net = Net::new("mobilenetv2", Shape::new(3, 32, 32));
    let point = Window::square(1, 1, 0);
    let (mut x, mut channels) = (net.conv(0, 32, 1, Net::three(1)), 32);
    let stages =
        [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    for (expand, out, count, stride) in stages {
        for block in 0..count {
            let wide = channels * expand;
            let mut y = if expand > 1 { net.conv(x, wide, 1, point) } else { x };
            y = net.conv(y, wide, wide, Net::three(if block == 0 { stride } else { 1 }));
            y = net.linear(y, out, 1, point);
            x = if block > 0 { net.push(Op::Add, &[y, x]) } else { y };
            channels = out;
        }
    }
    x = net.conv(x, 1280, 1, point);
    net.classifier(x, 10)
}

/// `count` pictures, `H W C`: noise over a gradient.
pub fn pictures(network: &Network, count: usize) -> Vec<Vec<u8>> {
    let size = network.tensors[network.input].shape.len();
    let mut noise = Net::new("noise", Shape::new(1, 1, 1));
    let mut picture = || {
        let values = noise.values(size, 64.0);
        values.into_iter().enumerate().map(|(i, value)| ((i * 128 / size) as f32 + value + 64.0) as u8).collect()
    };
    (0..count).map(|_| picture()).collect()
}
