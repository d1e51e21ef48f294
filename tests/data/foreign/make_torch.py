"""Writes the PyTorch files of this folder: small networks with seeded weights, in the forms that PyTorch's two exporters
give. Needs torch, onnx, onnxscript and onnxruntime (written with torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2,
onnxruntime 1.32.0):

    python -m venv venv && venv/bin/pip install torch onnx onnxscript onnxruntime
    venv/bin/python tests/data/foreign/make_torch.py

Weights are drawn, not trained: what the tests compare is arithmetic, not accuracy.
"""

import json
import pathlib
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime import quantization
from torch import nn

HERE = pathlib.Path(__file__).parent
SIZE = 24
# Scores of each file's network for one picture, as PyTorch (of quantized files: ONNX Runtime) has them.
EXPECTED = {}


def picture():
    c, y, x = np.meshgrid(np.arange(3), np.arange(SIZE), np.arange(SIZE), indexing="ij")
    return ((31 * y + 17 * x + 89 * c + 7 * x * y) % 256 / 255).astype(np.float32)[None]

warnings.simplefilter("ignore")


def block(channels, out, kernel, stride, groups, activation):
    padding = kernel // 2
    conv = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)] + ([activation] if activation else [])


class InvertedResidual(nn.Module):
    def __init__(self, channels, out, stride, expand, activation, excite=False):
        super().__init__()
        self.shortcut = stride == 1 and channels == out
        wide = channels * expand
        self.wide = nn.Sequential(*block(channels, wide, 1, 1, 1, activation), *block(wide, wide, 3, stride, wide, activation))
        self.excite = Excite(wide) if excite else nn.Identity()
        self.narrow = nn.Sequential(*block(wide, out, 1, 1, 1, None))

    def forward(self, x):
        y = self.narrow(self.excite(self.wide(x)))
        return x + y if self.shortcut else y


class Excite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.narrow, self.wide = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * nn.functional.hardsigmoid(self.wide(torch.relu(self.narrow(self.pool(x)))))


class MobileNetV2(nn.Module):
    """ReLU6, residuals, mean over height and width."""

    def __init__(self):
        super().__init__()
        act = nn.ReLU6()
        self.features = nn.Sequential(
            *block(3, 8, 3, 2, 1, act),
            InvertedResidual(8, 8, 1, 3, act),
            InvertedResidual(8, 12, 2, 3, act),
            InvertedResidual(12, 12, 1, 3, act),
            *block(12, 32, 1, 1, 1, act),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class MobileNetV3(nn.Module):
    """Hard swish, squeeze and excite, a flatten that asks for the shape."""

    def __init__(self):
        super().__init__()
        act = nn.Hardswish()
        self.features = nn.Sequential(
            *block(3, 8, 3, 2, 1, act),
            InvertedResidual(8, 8, 1, 2, nn.ReLU(), excite=True),
            InvertedResidual(8, 12, 2, 3, act, excite=True),
            InvertedResidual(12, 12, 1, 3, act),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Sequential(nn.Linear(12, 24), act, nn.Linear(24, 10))

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1))


class Mixed(nn.Module):
    """What the two above lack: leaky and smooth functions, padding, pools that hang over, products, constants, Softmax."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1))
        self.stem = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.LeakyReLU(0.1))
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.SiLU())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.pad = nn.ZeroPad2d(1)
        self.average = nn.AvgPool2d(3, 2, 1, count_include_pad=True)
        self.maximum = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, 12, 3, 2, 1, groups=2)
        self.classifier = nn.Linear(12, 10)

    def forward(self, x):
        x = self.stem((x - self.mean) / self.std)
        x = self.left(x) * self.right(x)
        x = torch.cat([self.maximum(x), self.average(x)], 1)
        # Behind Concat there is no layer for this one.
        x = self.last(torch.clamp(self.norm(x), -2, 2) * 0.5 + 0.25)
        x = torch.tanh(x)
        x = torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1)
        return torch.softmax(self.classifier(x), 1)


def made(net, seed):
    """Seeded weights, and statistics of BatchNorm as noise gives them."""
    torch.manual_seed(seed)
    net = net()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(20):
            net(torch.rand(16, 3, SIZE, SIZE))
    return net.eval()


def export(net, name, **options):
    x = torch.from_numpy(picture())
    path = HERE / name
    options = {"input_names": ["image"], "output_names": ["scores"], **options}
    torch.onnx.export(net, (x,), str(path), **options)
    model = onnx.load(path)
    # Where in this machine's folders the code lies is nobody's matter.
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = ""
    onnx.save(model, path)
    external = path.with_name(path.name + ".data")
    if external.exists():
        external.unlink()
    scores = net(x).detach().numpy()
    found = onnxruntime.InferenceSession(str(path)).run(None, {"image": x.numpy()})[0]
    assert np.abs(found - scores).max() < 1e-4, name
    EXPECTED[name] = scores[0].tolist()
    print(f"{name}: {path.stat().st_size} bytes")


class Noise(quantization.CalibrationDataReader):
    def __init__(self):
        random = np.random.default_rng(1)
        self.batches = iter([{"image": random.random((1, 3, SIZE, SIZE), np.float32)} for _ in range(32)])

    def get_next(self):
        return next(self.batches, None)


def quantize(source, name, form, activation, weight, per_channel, symmetric):
    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        quantization.quant_pre_process(str(HERE / source), str(prepared))
        quantization.quantize_static(
            str(prepared), str(HERE / name), Noise(), quant_format=form, activation_type=activation,
            weight_type=weight, per_channel=per_channel,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": symmetric},
        )
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(HERE / name), options)
    EXPECTED[name] = session.run(None, {"image": picture()})[0][0].tolist()
    print(f"{name}: {(HERE / name).stat().st_size} bytes")


def main():
    v2, v3, mixed = made(MobileNetV2, 1), made(MobileNetV3, 2), made(Mixed, 3)
    torchscript = {"dynamo": False}
    keep = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    export(v2, "torch-mobilenetv2-opset9.onnx", opset_version=9, **torchscript, **keep)
    export(v2, "torch-mobilenetv2-opset13.onnx", opset_version=13, **torchscript)
    any_batch = {"dynamic_axes": {"image": {0: "n"}, "scores": {0: "n"}}}
    export(v3, "torch-mobilenetv3-opset11.onnx", opset_version=11, **torchscript, **any_batch)
    export(v3, "torch-mobilenetv3-opset17.onnx", opset_version=17, **torchscript)
    export(mixed, "torch-mixed-opset13.onnx", opset_version=13, **torchscript, **keep)
    for net, name in [(v2, "mobilenetv2"), (v3, "mobilenetv3"), (mixed, "mixed")]:
        export(net, f"torch-{name}-dynamo.onnx", dynamo=True, external_data=False, optimize=True)
    qdq, operators = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator
    u8, i8 = quantization.QuantType.QUInt8, quantization.QuantType.QInt8
    source = "torch-mobilenetv2-opset13.onnx"
    quantize(source, "ort-mobilenetv2-qdq-u8-s8-per-channel.onnx", qdq, u8, i8, True, False)
    quantize(source, "ort-mobilenetv2-qdq-s8-s8.onnx", qdq, i8, i8, False, True)
    quantize(source, "ort-mobilenetv2-qoperator-u8-u8.onnx", operators, u8, u8, False, False)
    source = "torch-mobilenetv3-opset17.onnx"
    quantize(source, "ort-mobilenetv3-qdq-u8-u8.onnx", qdq, u8, u8, False, False)
    quantize(source, "ort-mobilenetv3-qoperator-u8-s8.onnx", operators, u8, i8, True, False)
    (HERE / "torch.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")


main()
