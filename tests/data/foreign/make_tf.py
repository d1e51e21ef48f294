"""Writes the TensorFlow file of this folder: a small Keras network with seeded weights, through tf2onnx, which leaves
`N H W C` at the border and padding of TensorFlow's kind inside. Written with tensorflow-cpu 2.21.0, tf2onnx 1.17.0,
onnx 1.18.0:

    python -m venv venv && venv/bin/pip install tensorflow-cpu tf2onnx "onnx<1.19" onnxruntime
    venv/bin/python tests/data/foreign/make_tf.py
"""

import json
import os
import pathlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

HERE = pathlib.Path(__file__).parent
SIZE = 24
layers = keras.layers
# Scores of each file's network for one picture, as Keras has them.
EXPECTED = {}


def picture():
    y, x, c = np.meshgrid(np.arange(SIZE), np.arange(SIZE), np.arange(3), indexing="ij")
    return ((31 * y + 17 * x + 89 * c + 7 * x * y) % 256 / 255).astype(np.float32)[None]



def block(x, filters, stride, activation):
    """As keras.applications has it: explicit zeros before a stride, then `valid`."""
    shortcut = x
    x = layers.Conv2D(3 * x.shape[-1], 1, use_bias=False)(x)
    x = layers.Activation(activation)(layers.BatchNormalization()(x))
    if stride == 2:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, stride, padding="same" if stride == 1 else "valid", use_bias=False)(x)
    x = layers.Activation(activation)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.Add()([x, shortcut]) if stride == 1 and filters == shortcut.shape[-1] else x


def excite(x):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(4, 1, activation="relu")(y)
    return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(y)])


def net():
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(2.0, -1.0)(image)
    # TensorFlow pads one pixel more behind than before.
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = block(x, 8, 1, "relu6")
    x = excite(x)
    x = block(x, 12, 2, "hard_swish")
    x = layers.LeakyReLU(0.2)(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.1)(layers.Dense(16, activation="swish")(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def flat():
    """A dense layer that reads an image, in the order of its pixels."""
    image = layers.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(6, 5, 2, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", activation="hard_sigmoid")(x)
    return keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))


def export(make, seed, opset, name):
    keras.utils.set_random_seed(seed)
    model = make()
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            size = gamma.shape
            layer.set_weights([random.uniform(0.7, 1.3, size), random.normal(0, 0.2, size),
                               random.normal(0, 0.3, size), random.uniform(0.3, 1.2, size)])
    call = tf.function(lambda image: model(image, training=False))
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image")]
    path = HERE / name
    onnx_model, _ = tf2onnx.convert.from_function(call, signature, opset=opset)
    for node in onnx_model.graph.node:
        node.doc_string = ""
    onnx.save(onnx_model, path)
    session = onnxruntime.InferenceSession(str(path))
    scores = model(picture()).numpy()
    found = session.run(None, {session.get_inputs()[0].name: picture()})[0]
    assert np.abs(found - scores).max() < 1e-4, name
    EXPECTED[name] = scores[0].tolist()
    print(f"{name}: {path.stat().st_size} bytes")


export(net, 1, 13, "tf-mobilenet-opset13.onnx")
export(net, 1, 17, "tf-mobilenet-opset17.onnx")
export(flat, 2, 11, "tf-flat-opset11.onnx")
(HERE / "tf.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")
