"""Real plans of small models: builders, a workshop that plans them, and the command line.

Everything is real (ONNX Runtime, processes, store); only the time spent on each timing is cut down,
because tests look at what is decided and written, never at how fast it was.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from planner import pipeline
from planner.cli.exits import run
from planner.profiling.store import Store, default_path
from planner.spec.constraints import Constraints
from planner.spec.io import sealed
from planner.spec.plan import Plan
from planner.steps import bench, contest, measured, whole_runs
from planner.steps.streaming import decide

ROOT = Path(__file__).parents[1]
_QUICK_S = 0.1


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def _weight(name: str, *shape: int) -> TensorProto:
    random = np.random.default_rng(zlib.crc32(name.encode()))
    scale = 1.0 / math.sqrt(math.prod(shape[1:]))
    return numpy_helper.from_array((random.standard_normal(shape) * scale).astype("f4"), name)


def _value(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[TensorProto],
) -> ModelProto:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    made: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    return made


def mlp(wide: int = 256) -> ModelProto:
    """MatMul, Relu, Gemm: 64 numbers to 4 scores."""
    return _model(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["h"]),
            helper.make_node("Gemm", ["h", "w2", "b2"], ["y"]),
        ],
        [_value("x", 1, 64)],
        [_value("y", 1, 4)],
        [_weight("w1", 64, wide), _weight("w2", wide, 4), _weight("b2", 4)],
    )


def cnn() -> ModelProto:
    """Two convolutions, pooling and a Gemm on a 3x12x12 image."""
    return _model(
        [
            helper.make_node("Conv", ["x", "k1"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "k2"], ["c"], strides=[2, 2]),
            helper.make_node("GlobalAveragePool", ["c"], ["d"]),
            helper.make_node("Flatten", ["d"], ["e"]),
            helper.make_node("Gemm", ["e", "w", "bias"], ["y"]),
        ],
        [_value("x", 1, 3, 12, 12)],
        [_value("y", 1, 5)],
        [_weight("k1", 8, 3, 3, 3), _weight("k2", 8, 8, 3, 3), _weight("w", 8, 5),
         _weight("bias", 5)],
    )  # fmt: skip


def lstm() -> ModelProto:
    """An LSTM over 5 steps, its last state projected."""
    hidden = 16
    return _model(
        [
            helper.make_node("LSTM", ["x", "w", "r"], ["", "last"], hidden_size=hidden),
            helper.make_node("Squeeze", ["last", "axis"], ["h"]),
            helper.make_node("MatMul", ["h", "p"], ["y"]),
        ],
        [_value("x", 5, 1, 8)],
        [_value("y", 1, 3)],
        [_weight("w", 1, 4 * hidden, 8), _weight("r", 1, 4 * hidden, hidden),
         _weight("p", hidden, 3), numpy_helper.from_array(np.array([0], np.int64), "axis")],
    )  # fmt: skip


def conditional() -> ModelProto:
    """y = flag ? h W : -h with h = x V: the bodies capture a tensor and a weight."""

    def body(name: str, *nodes: NodeProto) -> GraphProto:
        return helper.make_graph(list(nodes), name, [], [_value(f"{name}_y", 1, 16)])

    return _model(
        [
            helper.make_node("MatMul", ["x", "v"], ["h"]),
            helper.make_node(
                "If",
                ["flag"],
                ["y"],
                then_branch=body("t", helper.make_node("MatMul", ["h", "w"], ["t_y"])),
                else_branch=body("e", helper.make_node("Neg", ["h"], ["e_y"])),
            ),
        ],
        [_value("x", 1, 16), _value("flag", kind=TensorProto.BOOL)],
        [_value("y", 1, 16)],
        [_weight("v", 16, 16), _weight("w", 16, 16)],
    )


def encoder(width: int = 32) -> ModelProto:
    """One transformer block (attention, addition, normalisation, two layers) of any length."""
    node = helper.make_node
    return _model(
        [
            node("MatMul", ["x", "wq"], ["q"]),
            node("MatMul", ["x", "wk"], ["k"]),
            node("MatMul", ["x", "wv"], ["v"]),
            node("Transpose", ["k"], ["turned"], perm=[0, 2, 1]),
            node("MatMul", ["q", "turned"], ["scores"]),
            node("Softmax", ["scores"], ["share"], axis=-1),
            node("MatMul", ["share", "v"], ["mixed"]),
            node("Add", ["x", "mixed"], ["sum"]),
            node("LayerNormalization", ["sum", "gain", "shift"], ["h"], axis=-1),
            node("MatMul", ["h", "w1"], ["wide"]),
            node("Relu", ["wide"], ["active"]),
            node("MatMul", ["active", "w2"], ["narrow"]),
            node("Add", ["h", "narrow"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "time", width])],
        [_weight("wq", width, width), _weight("wk", width, width), _weight("wv", width, width),
         _weight("w1", width, 4 * width), _weight("w2", 4 * width, width), _weight("gain", width),
         _weight("shift", width)],
    )  # fmt: skip


MODELS = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "conditional": conditional}


def save(made: ModelProto, path: Path) -> Path:
    """Writes it as it is."""
    path.write_bytes(made.SerializeToString())
    return path


def infopt(*arguments: object) -> Ended:
    """The command in this process: all but the interpreter's start and end."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    handler = signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    signal.signal(signal.SIGTERM, handler)
    return Ended(code, _text(out), _text(err))


@dataclass(slots=True)
class Workshop:
    """A folder with models, one cache for all of them, and plans made once."""

    folder: Path
    cache: Path
    _plans: dict[str, Plan] = field(default_factory=dict)

    def model(self, name: str) -> Path:
        """The model's file, written when first asked for."""
        path = self.folder / f"{name}.onnx"
        return path if path.exists() else save(MODELS[name](), path)

    def constraints(self, model: str | Path, **changes: Any) -> Constraints:
        """Constraints with few formats and a loose budget, `changes` applied."""
        path = self.model(model) if isinstance(model, str) else model
        values: dict[str, Any] = {
            "model": str(path),
            "accuracy": {"max_error": 0.05},
            "compression": {"formats": ["int8_dynamic"]},
        }
        return Constraints.model_validate({**values, **changes})

    def plan(self, model: str | Path, **changes: Any) -> Plan:
        """The sealed plan; the same request is planned once."""
        constraints = self.constraints(model, **changes)
        key = constraints.model_dump_json()
        if key not in self._plans:
            with self.quick():
                self._plans[key] = sealed(pipeline.plan(constraints).plan)
        return self._plans[key]

    def infopt(self, *arguments: object) -> Ended:
        """The command in this process, on this workshop's cache."""
        with self.quick():
            return infopt(*arguments)

    def counts(self) -> dict[str, int]:
        """Entries of the store by kind."""
        with self.quick():
            store = Store()
            found = store.counts()
            store.close()
        return found

    @contextlib.contextmanager
    def quick(self) -> Iterator[None]:
        """This workshop's cache, and timings cut short."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INFOPT_CACHE", str(self.cache))
            patch.setattr(contest, "BUDGET_S", _QUICK_S)
            patch.setattr(whole_runs, "CONTEXT_SECONDS", _QUICK_S)
            patch.setattr(measured, "_BUDGET_S", _QUICK_S)
            patch.setattr(decide, "SECONDS", _QUICK_S / 10)
            patch.setattr(bench, "_SECONDS_PER_KERNEL", _QUICK_S)
            patch.setattr(whole_runs, "usable_cores", lambda: 1)  # half the kernels to measure
            yield

    @property
    def store_path(self) -> Path:
        """The store's file."""
        with self.quick():
            return default_path()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """One for the whole run: kernels are measured once."""
    folder = tmp_path_factory.mktemp("workshop")
    return Workshop(folder, folder / "cache")


def environment(cache: Path, **more: str) -> dict[str, str]:
    """Of a command in a process of its own: no settings of the user's, a temporary folder seen."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("INFOPT_")}
    paths = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**kept, "PYTHONPATH": paths, "INFOPT_CACHE": str(cache), **more}


def start(
    arguments: Sequence[object], folder: Path, env: Mapping[str, str], **more: Any
) -> subprocess.Popen[str]:
    """The command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "planner", *(str(argument) for argument in arguments)],
        cwd=folder, env=dict(env), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def command(
    arguments: Sequence[object], folder: Path, env: Mapping[str, str], **more: Any
) -> Ended:
    """The command in a process of its own, to its end."""
    started = start(arguments, folder, env, **more)
    out, err = started.communicate(timeout=120)
    return Ended(started.returncode, out, err)
