"""Where two devices beat one: a GPT whose weights take longer to read than its sums take to pass.

    python benchmarks/ranks_wide.py [--device cuda] [--size LAYERS,WIDTH,HEADS,WORDS,POSITIONS ...]
                                    [--json FILE]

One process with ONNX Runtime (a CUDA graph on a GPU) against the same model sharded over two ranks,
without a plan in between: at most 3 GB of weights are cut, not optimised. Both are called in turn,
from NumPy to NumPy. Each size given is one result, written as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import ranks  # noqa: E402

from planner.emit.blueprint import Blueprint, Part, Talk  # noqa: E402
from planner.emit.engine import write_engine  # noqa: E402
from planner.emit.golden import Golden  # noqa: E402
from planner.emit.partition import StageCut, options, partition, read  # noqa: E402
from planner.profiling.chains import time_chains  # noqa: E402
from planner.runtime import load  # noqa: E402
from planner.runtime.fingerprint import this_environment  # noqa: E402
from planner.runtime.fused.driver import Driver  # noqa: E402
from planner.runtime.ort import bind, make_session, tensor_specs  # noqa: E402
from planner.runtime.ranks.bench import Links, measure_links  # noqa: E402
from planner.runtime.ranks.board import CudaBoard, HostBoard  # noqa: E402
from planner.runtime.ranks.fabric import choose  # noqa: E402
from planner.runtime.ranks.shares import measure_shares  # noqa: E402
from planner.spec.plan import Estimate  # noqa: E402
from planner.spec.session import SessionSettings  # noqa: E402
from planner.steps.spreading import Wish, cut_choices, predicted  # noqa: E402
from tests.runtime.build import make_plan  # noqa: E402

PAIR = (0, 1)


def save(folder: Path) -> Path:
    """The model with its weights beside it: it may be larger than a protobuf."""
    ranks.random = lambda shape, rng: np.resize(_DRAWN, shape)
    path = folder / "model.onnx"
    onnx.save(
        ranks.gpt(), path, save_as_external_data=True, location="weights.bin", size_threshold=1024
    )
    return path


_DRAWN = np.random.default_rng(0).standard_normal(1_000_003).astype(np.float32)
"""Repeated: drawing gigabytes takes longer than all that is measured."""


def sharded(path: Path, folder: Path, settings: SessionSettings) -> list[Part | Talk]:
    """Cut as `infopt spread --tensor 2` cuts."""
    proto, graphs = read(path, [{"ids": (1, ranks.POSITIONS)}])
    graph = graphs[0]
    choices = cut_choices(graph, options(proto, graphs), Wish(tensor=2))
    names = frozenset(op.name for op in graph.ops)
    cuts = [StageCut(PAIR, names, dict(choices), settings.provider)]
    return list(partition(proto, graphs, cuts, folder / "parts", settings, path.parent))


def run(device: str, folder: Path, links: Links) -> dict[str, Any]:
    """Both ways, predicted and measured."""
    began = time.perf_counter()

    def tell(*words: object) -> None:
        print(f"{time.perf_counter() - began:5.1f} s", *words, flush=True)

    path = save(folder)
    tell("model", round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6), "MB")
    is_cuda = device == "cuda"
    settings = SessionSettings(provider=device, intra_op_threads=1 if not is_cuda else 0)
    feeds = {"ids": np.arange(ranks.POSITIONS)[None] % ranks.WORDS}
    whole = make_session(path, settings.model_copy(update={"cuda_graph": is_cuda}))
    one = bind(whole, ["logits"])
    (expected,) = one(feeds)
    tell("one process loaded")
    parts = sharded(path, folder, settings)
    tell(len(parts), "parts")
    times = time_chains(parts, feeds, 2, lambda: CudaBoard(Driver()) if is_cuda else HostBoard())
    assert times is not None
    estimate = predicted(times, ["logits"], links)
    tell("predicted", estimate)
    plan = make_plan({"ids": (1, ranks.POSITIONS)})
    inputs, outputs = tensor_specs(whole)
    answers = {"logits": expected}
    golden = Golden("default", feeds, answers, answers, max_reference_nmse=1e-4)
    engine = folder / "engine"
    named = Estimate(low=1, expected=1, high=1, source="measured")
    write_engine(
        engine,
        Blueprint(
            name="wide", plan=plan, parts=tuple(parts), inputs=inputs, outputs=outputs,
            goldens=(golden,), environment=this_environment(),
            predicted_latency_us={"default": named},
        ),
    )  # fmt: skip
    tell("engine written")
    with load(engine, verify_hashes=False) as session:
        tell("engine loaded")
        found = session.run(feeds)["logits"].astype(np.float64)
        nmse = float(np.sum((found - expected) ** 2) / np.sum(expected.astype(np.float64) ** 2))
        taken = ranks.in_turn(
            {"1 process": lambda: one(feeds), "2 ranks": lambda: session.run(feeds)}
        )
    tell("nmse", nmse, taken)
    shares = [asdict(each) | {"talking": each.talking} for each in measure_shares(engine)]
    tell(shares)
    return {
        "size": [ranks.LAYERS, ranks.WIDTH, ranks.HEADS, ranks.WORDS, ranks.POSITIONS],
        "predicted_us": estimate.model_dump(),
        "measured_us": taken,
        "nmse": nmse,
        "shares": shares,
        "chain_us": times.parts_us,
        "talks": times.talks,
        "links_us": links.times_us,
        "driver_us": links.driver_us,
    }


def main() -> None:
    """Times it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", nargs="+", default=["4,4096,32,256,16"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    links = measure_links(choose(given.device), 2, on_device=True)
    print("driving a run that echoes", links.driver_us, flush=True)
    found = []
    for size in given.size:
        sizes = map(int, size.split(","))
        ranks.LAYERS, ranks.WIDTH, ranks.HEADS, ranks.WORDS, ranks.POSITIONS = sizes
        with tempfile.TemporaryDirectory() as name:
            found.append(run(given.device, Path(name), links))
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
