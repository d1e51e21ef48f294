"""Prints this project's latency against ONNX Runtime's and LiteRT's on the same networks, in one interleaved run.

    cargo build --release -p intact --no-default-features
    python3 benches/peers/compare.py [--threads 1] [NET ...]

installs both from PyPI into target/peers first, unless the Python that runs it has them.

Networks are those of `nets.py`, and `resnet8`, the trained one of tests/models. Each is exported by `intact export` with both
forms of weights, since ONNX Runtime has fast kernels for one of them only, and runs from the exported file and as float. LiteRT
runs the same integers with signed inputs, the form of `--preset xnnpack`, and the same floats, both rewritten by `tflite.py`: its
logits are compared with ONNX Runtime's before anything is measured. Engines take turns, a fifth of a second each: what disturbs
one disturbs all. With one thread all of a round run on the same core, the next round on the next core: on a virtual machine, one core
can be half as fast as another for seconds, and a process of its own (ours) would sit on another one than this one (the peers').
A ratio is to the peer whose median over the rounds is least, whatever its form: the median over the rounds of both in the same round.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

try:
    import numpy as np
    import onnxruntime as ort
    from ai_edge_litert.interpreter import Interpreter
    from tflite import convert
except ImportError as missing:
    peers = ROOT / "target/peers"
    if Path(sys.prefix) == peers:
        sys.exit(f"{peers}: {missing}; delete it to have it installed anew")
    print(f"{missing}: installing the packages of requirements.txt into {peers}", file=sys.stderr)
    venv.create(peers, with_pip=True)
    requirements = Path(__file__).with_name("requirements.txt")
    subprocess.run([peers / "bin/pip", "install", "--quiet", "--requirement", requirements], check=True)
    python = str(peers / "bin/python")
    os.execv(python, [python, *sys.argv])

NETS = ["resnet8", "mobilenet_v1", "ds_cnn", "resnet20", "vgg7", "mobilenet_v2"]
TURN = 0.2


class Ours:
    """`intact bench`, which measures for a given time and prints percentiles; a turn is one run of it."""

    def __init__(self, name, binary, image, options):
        self.name = name
        self.command = [str(binary), "bench", str(image), "--seconds", str(TURN)] + options

    def turn(self):
        out = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"median ([\d.]+) us, 5th percentile ([\d.]+) us", out)
        return float(found[1]), float(found[2])


class Called:
    """A function that runs the network once."""

    def __init__(self, name, call):
        self.name, self.call = name, call
        for _ in range(20):
            call()

    def turn(self):
        times, end = [], time.perf_counter() + TURN
        while time.perf_counter() < end:
            begin = time.perf_counter_ns()
            self.call()
            times.append((time.perf_counter_ns() - begin) / 1e3)
        return float(np.median(times)), float(np.percentile(times, 5))


def onnx_runtime(name, path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = session.get_inputs()[0]
    dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}[x.type]
    shape = [d if isinstance(d, int) else 1 for d in x.shape]
    feed = {x.name: np.random.default_rng(0).integers(0, 100, shape).astype(dtype)}
    # Bound once, so that Python's part of a call is small.
    binding = session.io_binding()
    binding.bind_cpu_input(x.name, feed[x.name])
    binding.bind_output(session.get_outputs()[0].name)
    return Called(name, lambda: session.run_with_iobinding(binding))


def lite_rt(name, path, threads):
    model = path.with_suffix(".tflite")
    convert(path, model)
    interpreter = Interpreter(model_path=str(model), num_threads=threads)
    interpreter.allocate_tensors()
    check(name, interpreter, path)
    return Called(name, interpreter.invoke)


def check(name, interpreter, path):
    """Refuses a file whose logits are far from those of the ONNX file: engines only round sums differently."""
    x, y = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    integers = x["dtype"] == np.int8

    def floats(tensor, values):
        scale, zero = tensor["quantization"] if integers else (1, 0)
        return (values.astype(np.float32) - zero) * np.float32(scale)

    values = np.random.default_rng(0).integers(-128, 128, x["shape"]).astype(x["dtype"])
    interpreter.set_tensor(x["index"], values)
    interpreter.invoke()
    found = floats(y, interpreter.get_tensor(y["index"]))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: floats(x, values).transpose(0, 3, 1, 2)})[0]
    step = y["quantization"][0] if integers else np.abs(wanted).max() / 1000
    off = np.abs(found - wanted).max() / step
    if off > 8.5:
        sys.exit(f"{name} and ONNX Runtime disagree on {path.name}: logits differ by {off:.1f} steps of {step:.3g}")


def engines(net, folder, a):
    """Exports `net` in all forms of weights and opens it in all engines."""
    source = ROOT / "tests/models/resnet8-cifar10.safetensors" if net == "resnet8" else folder / f"{net}.onnx"
    options = ["--kernels", a.kernels] if a.kernels else []
    if a.threads > 1:
        options += ["--threads", str(a.threads)]

    def export(preset):
        command = [str(a.intact), "export", str(source), "--out", str(folder / preset), "--preset", preset]
        command += ["--calibration-images", "20"] + (["--data", a.data] if a.data else [])
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return folder / preset / f"{net}.onnx"

    peers = []
    for form, preset in (("u8 weights", "mobile"), ("s8 weights per channel", "mobile-per-channel")):
        file = export(preset)
        yield Ours(f"intact, {form}", a.intact, file.with_suffix(".intact"), options)
        peers.append(onnx_runtime(f"ONNX Runtime, {form}", file, a.threads))
    yield from peers
    yield lite_rt("LiteRT, s8 weights per channel", export("xnnpack"), a.threads)
    if source.suffix == ".onnx":
        yield onnx_runtime("ONNX Runtime, float", source, a.threads)
        yield lite_rt("LiteRT, float", source, a.threads)


def compare(net, folder, a):
    all_engines = list(engines(net, folder, a))
    turns = {engine.name: [] for engine in all_engines}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for round in range(a.rounds):
        if a.threads == 1 and cores:
            os.sched_setaffinity(0, {cores[round % len(cores)]})
        for engine in all_engines:
            turns[engine.name].append(engine.turn())
    if cores:
        os.sched_setaffinity(0, cores)
    turns = {name: np.array(found) for name, found in turns.items()}
    medians = {name: np.median(found, axis=0) for name, found in turns.items()}
    best = min((name for name in turns if not name.startswith("intact")), key=lambda name: medians[name][0])
    print(f"{net}, {a.threads} thread{'s' if a.threads > 1 else ''}")
    for name, (median, fifth) in medians.items():
        line = f"  {name:40} median {median:8.1f} us   5th percentile {fifth:8.1f} us"
        if name.startswith("intact"):
            ratios = turns[name][:, 0] / turns[best][:, 0]
            line += f"   {np.median(ratios):.2f} of {best} ({ratios.min():.2f} to {ratios.max():.2f})"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", metavar="NET", help=f"of {', '.join(NETS)}; all if none is given")
    parser.add_argument("--intact", type=Path, default=ROOT / "target/release/intact", help="the command line to measure")
    parser.add_argument("--kernels", help="kernels of `intact bench`; the fastest if not given")
    parser.add_argument("--data", help="CIFAR-10, which the trained resnet8 asks for; drawn images if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    a = parser.parse_args()
    unknown = set(a.nets) - set(NETS)
    if unknown or not a.intact.exists():
        sys.exit(f"no network {sorted(unknown)}" if unknown else f"no command line at {a.intact}")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run([sys.executable, str(Path(__file__).with_name("nets.py")), str(folder)], check=True)
        for net in a.nets or NETS:
            compare(net, folder, a)


if __name__ == "__main__":
    main()
