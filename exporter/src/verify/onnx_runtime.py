"""Runs a model in ONNX Runtime: python -c SCRIPT FOLDER REQUEST.

Enters: FOLDER/model.onnx, FOLDER/input (images as little-endian f32, whatever the input's type), REQUEST (JSON): names of input, output and of further
values, dims of one image, images of which the further values are wanted, optimization level. Leaves: FOLDER/output and
FOLDER/taps (f32, value after value, image after image) and one line of JSON, in which `in_float` are the operators of the
graph as it runs that read what a DequantizeLinear gives, other than a QuantizeLinear.
"""

import json
import os
import sys

import numpy
import onnx
import onnxruntime

folder, request = sys.argv[1], json.loads(sys.argv[2])
path = os.path.join(folder, "model.onnx")
optimized = os.path.join(folder, "optimized.onnx")
TYPES = {"tensor(float)": "f4", "tensor(uint8)": "u1", "tensor(int8)": "i1"}
LEVELS = {
    "default": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session(names):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = LEVELS[request["level"]]
    options.optimized_model_filepath = optimized
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    model = onnx.load(path)
    del model.graph.output[:]
    for name in names:
        cast = onnx.helper.make_node("Cast", [name], [name + "__f32"], to=onnx.TensorProto.FLOAT)
        model.graph.node.append(cast)
        value = onnx.helper.make_tensor_value_info(name + "__f32", onnx.TensorProto.FLOAT, None)
        model.graph.output.append(value)
    engine = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return engine, [name + "__f32" for name in names]


def run(engine, names, images):
    extent = engine.get_inputs()[0].shape[0]
    images = images.astype(TYPES[engine.get_inputs()[0].type])
    batch = extent if isinstance(extent, int) and extent > 0 else 100
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part) if isinstance(extent, int) and extent > 0 else 0
        if missing:
            part = numpy.concatenate([part, numpy.repeat(part[-1:], missing, 0)])
        results = engine.run(names, {request["input"]: part})
        parts.append([result[: len(part) - missing] for result in results])
    return [numpy.concatenate(part).astype("<f4") for part in zip(*parts)]


def computed_in_float():
    nodes = onnx.load(optimized).graph.node
    dequantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    reads = [node for node in nodes if dequantized.intersection(node.input)]
    return [f"{node.op_type} {node.name}" for node in reads if node.op_type not in ("QuantizeLinear", "Cast", "Softmax")]


images = numpy.fromfile(os.path.join(folder, "input"), "<f4").reshape([-1] + request["dims"])
engine, names = session([request["output"]])
in_float = computed_in_float()
(output,) = run(engine, names, images)
output.tofile(os.path.join(folder, "output"))
taps = []
with open(os.path.join(folder, "taps"), "wb") as file:
    if request["taps"] and request["tapped"]:
        engine, names = session(request["taps"])
        for name, values in zip(request["taps"], run(engine, names, images[: request["tapped"]])):
            taps.append([name, list(values.shape[1:])])
            file.write(values.tobytes())
version = "ONNX Runtime " + onnxruntime.__version__
reply = {"engine": version, "outputs": output[0].size, "in_float": in_float, "taps": taps}
print(json.dumps(reply))
