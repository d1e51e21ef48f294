"""Runs a model in ONNX Runtime: python -c SCRIPT FOLDER REQUEST.

Enters: FOLDER/model.onnx, FOLDER/input (images as little-endian f32), REQUEST (JSON): names of input, output and of further
values, dims of one image, images of which the further values are wanted. Leaves: FOLDER/output and FOLDER/taps (f32, value
after value, image after image) and one line of JSON.
"""

import json
import os
import sys

import numpy
import onnx
import onnxruntime

folder, request = sys.argv[1], json.loads(sys.argv[2])
path = os.path.join(folder, "model.onnx")


def session(names):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
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


images = numpy.fromfile(os.path.join(folder, "input"), "<f4").reshape([-1] + request["dims"])
engine, names = session([request["output"]])
(output,) = run(engine, names, images)
output.tofile(os.path.join(folder, "output"))
taps = []
with open(os.path.join(folder, "taps"), "wb") as file:
    if request["taps"] and request["tapped"]:
        engine, names = session(request["taps"])
        for name, values in zip(request["taps"], run(engine, names, images[: request["tapped"]])):
            taps.append([name, list(values.shape[1:])])
            file.write(values.tobytes())
reply = {"engine": "ONNX Runtime " + onnxruntime.__version__, "outputs": output[0].size, "taps": taps}
print(json.dumps(reply))
