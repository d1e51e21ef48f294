"""Prints what two threads gain on each network, and what the machine has to give at that time.

    cargo build --release -p intact --no-default-features
    python3 benches/two_threads.py IMAGE.intact ... [--rounds 12] [--intact target/release/intact]

A round is three turns of `intact bench`, a quarter of a second each: one thread alone; two processes of one thread each, side by
side on two cores, which have nothing to do with each other; two threads. What side by side loses, no runtime can gain: on a
virtual machine two cores are two cores at some times and two threads of the same one at others. Times are medians of a turn.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

TURN = "0.25"


def started(a, image, threads, core=None):
    command = [str(a.intact), "bench", str(image), "--seconds", TURN, "--threads", str(threads)]
    pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=pin)


def median(process):
    out, _ = process.communicate()
    found = re.search(r"median ([\d.]+) us", out)
    if process.returncode or not found:
        sys.exit(f"{process.args} ended with {process.returncode}:\n{out}")
    return float(found[1])


def measure(a, image, cores):
    rounds = []
    for i in range(a.rounds):
        one = median(started(a, image, 1, cores[i % 2]))
        beside = statistics.mean(median(p) for p in [started(a, image, 1, core) for core in cores])
        two = median(started(a, image, 2))
        rounds.append((one, beside, two))
    gains = sorted(one / two for one, _, two in rounds)
    ceilings = [2 * one / beside for one, beside, _ in rounds]
    apart = [one / two for (one, _, two), ceiling in zip(rounds, ceilings) if ceiling >= 1.9]
    print(
        f"{image.stem:14} one {min(r[0] for r in rounds):7.1f} us at least, two {min(r[2] for r in rounds):7.1f}; "
        f"gain {statistics.median(gains):.2f} ({gains[0]:.2f} to {gains[-1]:.2f}); "
        f"side by side {statistics.median(ceilings):.2f} ({min(ceilings):.2f} to {max(ceilings):.2f}); "
        + (f"gain in the {len(apart)} rounds with 1.9 and more {statistics.median(apart):.2f}" if apart else "never 1.9"),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE.intact")
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--intact", type=Path, default=root / "target/release/intact", help="the command line to measure")
    parser.add_argument("--rounds", type=int, default=12)
    a = parser.parse_args()
    if a.rounds < 1:
        parser.error(f"--rounds: found {a.rounds}, expected 1 or more")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two threads need two cores; there is one")
    for image in a.images:
        measure(a, image, cores)


if __name__ == "__main__":
    main()
