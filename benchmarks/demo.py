"""The demo: a digit classifier, trained here, planned under real promises, deployed and checked.

    make demo        # or: python benchmarks/demo.py

Everything goes to ./demo/. The commands are those a newcomer would type; the exit code is that of
the first one that fails.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("demo")
HIDDEN = (1024, 1024)
EPOCHS = 12
HELD_OUT = 0.5
"""Half of the 1797 digits judge: 1 pp at 95 % needs 299 samples that all answer alike, and 0.5 pp
598."""
CALIBRATION_SAMPLES = 128
BRIGHTEST = 16.0
"""Pixels of scikit-learn's digits go from 0 to 16."""
SLO = "20ms"
MAX_DROP = "1pp"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Digits:
    """Images (N x 64, float32, 0 to 16) and labels (N, int64), to learn from and to judge by."""

    images: Array
    labels: Array
    held_out_images: Array
    held_out_labels: Array


def load() -> Digits:
    """scikit-learn's digits (they come inside the package), split the same way every time."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        images.astype(np.float32),
        labels.astype(np.int64),
        test_size=HELD_OUT,
        random_state=0,
        stratify=labels,
    )
    learnt, held_out, learnt_labels, held_out_labels = parts
    return Digits(learnt, learnt_labels, held_out, held_out_labels)


def train(digits: Digits) -> MLPClassifier:
    """A perceptron of 1.1 million weights."""
    network = MLPClassifier(HIDDEN, batch_size=128, max_iter=EPOCHS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # enough epochs for a demo
        network.fit(digits.images / BRIGHTEST, digits.labels)
    return network


def export(network: MLPClassifier) -> onnx.ModelProto:
    """image (1 x 64, 0 to 16) -> scaled -> Gemm, Relu, ... -> probability (1 x 10)."""
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    nodes = [helper.make_node("Div", ["image", "brightest"], ["hidden0"], name="scale")]
    constants = [numpy_helper.from_array(np.full((), BRIGHTEST, np.float32), "brightest")]
    for index, (weight, bias) in enumerate(layers, start=1):
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"weight{index}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"bias{index}"))
        inputs = [f"hidden{index - 1}", f"weight{index}", f"bias{index}"]
        nodes.append(helper.make_node("Gemm", inputs, [f"sum{index}"], name=f"layer{index}"))
        if index < len(layers):
            made = [f"hidden{index}"]
            nodes.append(helper.make_node("Relu", [f"sum{index}"], made, name=f"relu{index}"))
    nodes.append(
        helper.make_node("Softmax", [f"sum{len(layers)}"], ["probability"], name="softmax")
    )
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def prepare() -> None:
    """Writes demo/model.onnx, demo/calibration.npz and demo/evaluation.npz."""
    start = time.perf_counter()
    digits = load()
    network = train(digits)
    score = network.score(digits.held_out_images / BRIGHTEST, digits.held_out_labels)
    FOLDER.mkdir(exist_ok=True)
    onnx.save(export(network), FOLDER / "model.onnx")
    np.savez(FOLDER / "calibration.npz", image=digits.images[:CALIBRATION_SAMPLES])
    np.savez(FOLDER / "evaluation.npz", image=digits.held_out_images, labels=digits.held_out_labels)
    print(
        f"trained 64-{'-'.join(map(str, HIDDEN))}-10 on {len(digits.labels)} digits in "
        f"{time.perf_counter() - start:.0f} s: {score:.1%} of {len(digits.held_out_labels)} unseen "
        f"ones are right\nwrote {FOLDER}/model.onnx, calibration.npz, evaluation.npz",
        flush=True,
    )


def infopt(*arguments: str) -> None:
    """Prints the command as one would type it, runs it, and ends the demo if it fails."""
    print(f"\n$ infopt {shlex.join(arguments)}", flush=True)
    script = Path(sys.executable).with_name("infopt")
    command = [str(script)] if script.exists() else [sys.executable, str(ROOT / "cli.py")]
    code = subprocess.run([*command, *arguments], check=False).returncode
    if code != 0:
        print(f"infopt ended with exit code {code}", file=sys.stderr)
        raise SystemExit(code)


def main() -> None:
    """Trains, plans, explains, deploys."""
    os.chdir(ROOT)
    prepare()
    model, made, engine = (str(FOLDER / name) for name in ("model.onnx", "plan.json", "engine"))
    data = [
        *("--calibration", str(FOLDER / "calibration.npz")),
        *("--evaluation", str(FOLDER / "evaluation.npz"), "--metric", "top1"),
    ]
    infopt("plan", model, "--slo", SLO, "--max-drop", MAX_DROP, *data, "-o", made)
    infopt("deploy", made, "-o", engine, "--no-serve")
    print(f"\nserve it:  infopt serve {engine}\nwhy so:    infopt explain {made}")


if __name__ == "__main__":
    main()
