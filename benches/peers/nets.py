"""Writes the networks that engines are compared on, as float ONNX with random weights: latency does not depend on them.

    python nets.py FOLDER

leaves mobilenet_v1.onnx (0.25, 96x96), ds_cnn.onnx, resnet20.onnx, vgg7.onnx and mobilenet_v2.onnx (1.0, 32x32). Shapes are
those of MLPerf Tiny and of the papers; batch normalization is folded, as it is in any deployed file.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


# Of the drawn images that calibrate; two or twelve logits would take the same time.
CLASSES = 10


class Net:
    """A graph in the making. `x` is a pair: name, channels."""

    def __init__(self, name, height, width, channels):
        self.name, self.nodes, self.weights = name, [], []
        self.random = np.random.default_rng(1)
        shape = [1, channels, height, width]
        self.input = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        self.x = ("input", channels)

    def add(self, op, inputs, **attributes):
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def weight(self, *shape, scale):
        name = f"w{len(self.weights)}"
        values = self.random.normal(0, scale, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x, out, kernel, stride=1, groups=1, relu=True):
        """A convolution with the padding that keeps the size (stride aside), and ReLU."""
        name, channels = x
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        stride = (stride, stride) if isinstance(stride, int) else stride
        fan_in = channels // groups * kernel[0] * kernel[1]
        weights = self.weight(out, channels // groups, *kernel, scale=(2 / fan_in) ** 0.5)
        bias = self.weight(out, scale=0.1)
        begin = [(k - 1) // 2 for k in kernel]
        pads = begin + [k - 1 - b for k, b in zip(kernel, begin)]
        y = self.add("Conv", [name, weights, bias], kernel_shape=kernel, strides=stride, pads=pads, group=groups)
        return (self.add("Relu", [y]) if relu else y, out)

    def sum(self, a, b, relu):
        y = self.add("Add", [a[0], b[0]])
        return (self.add("Relu", [y]) if relu else y, a[1])

    def max_pool(self, x):
        return (self.add("MaxPool", [x[0]], kernel_shape=[2, 2], strides=[2, 2]), x[1])

    def classifier(self, x, classes):
        y = self.add("GlobalAveragePool", [x[0]])
        y = self.add("Flatten", [y], axis=1)
        weights = self.weight(classes, x[1], scale=x[1] ** -0.5)
        self.add("Gemm", [y, weights, self.weight(classes, scale=0.1)], transB=1)
        self.classes = classes

    def save(self, folder):
        last = self.nodes[-1].output[0]
        output = helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, self.classes])
        graph = helper.make_graph(self.nodes, self.name, [self.input], [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        # How pixels become values, for `intact export`.
        height, width = (d.dim_value for d in self.input.type.tensor_type.shape.dim[2:])
        pixels = {"height": height, "width": width, "channel_order": "RGB", "mean": [0.5] * 3, "std": [0.25] * 3}
        helper.set_model_props(model, {"intact.preprocessing": json.dumps(pixels)})
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(folder / f"{self.name}.onnx"))


def separable(net, x, out, stride):
    x = net.conv(x, x[1], 3, stride, groups=x[1])
    return net.conv(x, out, 1)


def mobilenet_v1():
    net = Net("mobilenet_v1", 96, 96, 3)
    x = net.conv(net.x, 8, 3, 2)
    for out, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)] + [(128, 1)] * 5 + [(256, 2), (256, 1)]:
        x = separable(net, x, out, stride)
    net.classifier(x, CLASSES)
    return net


def ds_cnn():
    net = Net("ds_cnn", 49, 10, 3)
    x = net.conv(net.x, 64, (10, 4), 2)
    for _ in range(4):
        x = separable(net, x, 64, 1)
    net.classifier(x, CLASSES)
    return net


def resnet20():
    net = Net("resnet20", 32, 32, 3)
    x = net.conv(net.x, 16, 3)
    for out in (16, 32, 64):
        for block in range(3):
            stride = 2 if out > 16 and block == 0 else 1
            y = net.conv(net.conv(x, out, 3, stride), out, 3, relu=False)
            shortcut = net.conv(x, out, 1, stride, relu=False) if stride == 2 else x
            x = net.sum(y, shortcut, relu=True)
    net.classifier(x, CLASSES)
    return net


def vgg7():
    net = Net("vgg7", 32, 32, 3)
    x = net.x
    for out in (64, 128, 256):
        x = net.max_pool(net.conv(net.conv(x, out, 3), out, 3))
    net.classifier(x, CLASSES)
    return net


def mobilenet_v2():
    net = Net("mobilenet_v2", 32, 32, 3)
    x = net.conv(net.x, 32, 3)
    settings = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expand, out, count, stride in settings:
        for block in range(count):
            y = net.conv(x, x[1] * expand, 1) if expand > 1 else x
            y = net.conv(y, y[1], 3, stride if block == 0 else 1, groups=y[1])
            y = net.conv(y, out, 1, relu=False)
            x = net.sum(y, x, relu=False) if block > 0 else y
    net.classifier(net.conv(x, 1280, 1), CLASSES)
    return net


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for build in (mobilenet_v1, ds_cnn, resnet20, vgg7, mobilenet_v2):
        build().save(folder)


if __name__ == "__main__":
    main()
