"""Classifies raw images with an ONNX file in ONNX Runtime and writes its logits.

    ort_predictions.py MODEL.onnx IMAGES LOGITS [--labels LABELS] [--threads N] [--batch N]

Enters: IMAGES, raw bytes, `N H W C`, as many images as the file holds (or the same as .npy); LABELS, one byte for each image;
a model with the metadata `intact.preprocessing`, which says how pixels become values. Leaves: LOGITS, `N K` without a header:
for a quantized model the stored integers, one byte each (two's complement if signed); for a float model little-endian f32. On
stdout one line of JSON: images, classes, form of the logits, and with labels the accuracy. Refused: a model without that
metadata, files that do not hold whole images; exit code 2.
"""

import argparse
import json
import os
import pathlib
import sys

import numpy
import onnx
import onnxruntime


class Refused(Exception):
    """Bad input, with what was found and expected."""


def preprocessing(model):
    """Shape of an image and the value of every pixel value, `C 256`, in f32 arithmetic: ((p / 255) - mean) / std."""
    text = {p.key: p.value for p in model.metadata_props}.get("intact.preprocessing")
    if text is None:
        raise Refused("the model has no metadata `intact.preprocessing`")
    stated = json.loads(text)
    mean = numpy.array(stated["mean"], numpy.float32)[:, None]
    std = numpy.array(stated["std"], numpy.float32)[:, None]
    pixels = numpy.arange(256, dtype=numpy.float32)[None, :]
    return (stated["height"], stated["width"], len(mean)), (pixels / numpy.float32(255) - mean) / std


def output_encoding(model):
    """Scale, zero point and type of the integers behind the output; None for a float model."""
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] == model.graph.output[0].name:
            scale, zero_point = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            return scale.reshape(()), zero_point.reshape(())
    return None


def read_images(path, shape):
    """Bytes, `N H W C`."""
    data = numpy.load(path) if path.suffix == ".npy" else numpy.fromfile(path, numpy.uint8)
    size = shape[0] * shape[1] * shape[2]
    if data.dtype != numpy.uint8 or data.size == 0 or data.size % size:
        raise Refused(f"{path}: {data.size} elements of {data.dtype}, expected images of {size} bytes")
    return data.reshape((-1, *shape))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("logits", type=pathlib.Path)
    parser.add_argument("--labels", type=pathlib.Path, help="one byte for each image")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=100, help="images per run, if the model leaves that open")
    arguments = parser.parse_args()

    model = onnx.load(arguments.model)
    shape, table = preprocessing(model)
    images = read_images(arguments.images, shape)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.log_severity_level = 3
    engine = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    (model_input,) = engine.get_inputs()
    batch = model_input.shape[0] if isinstance(model_input.shape[0], int) else arguments.batch
    if len(images) % batch and isinstance(model_input.shape[0], int):
        raise Refused(f"{len(images)} images, the model takes {batch} at a time")

    channels = numpy.arange(shape[2])
    parts = []
    for start in range(0, len(images), batch):
        values = table[channels, images[start : start + batch]].transpose(0, 3, 1, 2)
        parts.append(engine.run(None, {model_input.name: numpy.ascontiguousarray(values)})[0])
    logits = numpy.concatenate(parts).reshape(len(images), -1)

    encoding = output_encoding(model)
    if encoding is not None:
        scale, zero_point = encoding
        # The division undoes a product with the same scale, so that rounding finds the integer again.
        integers = numpy.rint(logits / scale).astype(numpy.int64) + int(zero_point)
        stored = integers.astype(zero_point.dtype)
        if (stored != integers).any():
            raise Refused("the output holds values that its encoding cannot")
        logits = stored
    partial = arguments.logits.with_name(arguments.logits.name + ".partial")
    logits.astype(logits.dtype.newbyteorder("<")).tofile(partial)
    os.replace(partial, arguments.logits)

    report = {"images": len(images), "classes": logits.shape[1], "logits": str(logits.dtype)}
    if arguments.labels:
        labels = numpy.fromfile(arguments.labels, numpy.uint8)
        if len(labels) != len(images):
            raise Refused(f"{arguments.labels}: {len(labels)} labels for {len(images)} images")
        report["accuracy"] = float((logits.argmax(1) == labels).mean())
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, OSError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
