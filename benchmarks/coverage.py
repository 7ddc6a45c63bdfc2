"""How much of each model code is generated for: operators covered, parts, and why the rest is not.

    python benchmarks/coverage.py                       # the suite of small models
    python benchmarks/coverage.py --data DIR            # DIR/*/model.onnx with sample_inputs.npz

Records (`--json`): model, operators, covered, generated (in parts worth crossing over to), parts,
is_float (no quantised operators), reasons. Models are simplified as planning does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import onnx

from benchmarks.small.suite import SUITE
from planner.errors import InfoptError
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.segments import Cut, cut
from planner.progress import Silent
from planner.steps.files import bound_files
from planner.steps.reading import known_model
from planner.steps.workspace import Workspace, workspace

Record = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
_QUANTISED = ("Quantize", "QLinear", "Integer")


def main() -> None:
    """Counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of model folders")
    parser.add_argument("--models", help="comma-separated names; all when not given")
    parser.add_argument("--json", type=Path, help="write records here")
    arguments = parser.parse_args()
    wanted = arguments.models.split(",") if arguments.models else None
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as scratch, workspace(Silent()) as work:
        found = folders(arguments.data) if arguments.data else suite(Path(scratch))
        for name, path, shapes in found:
            if wanted is None or name in wanted:
                records.append(counted(name, path, shapes, work))
                print(json.dumps(records[-1]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(records, indent=1))
    print(summary(records))


def suite(scratch: Path) -> Iterator[tuple[str, Path, Shapes]]:
    """The suite's models, each written when it is asked for."""
    for name, build in SUITE.items():
        path = scratch / f"{name}.onnx"
        onnx.save(build("float32"), path)
        yield name, path, {}


def folders(root: Path) -> Iterator[tuple[str, Path, Shapes]]:
    """Models with the shapes of their sample inputs."""
    for path in sorted(root.glob("*/model.onnx")):
        sample = path.with_name("sample_inputs.npz")
        shapes = {}
        if sample.exists():
            with np.load(sample, allow_pickle=False) as arrays:
                shapes = {name: arrays[name].shape for name in arrays.files}
        yield path.parent.name, path, shapes


def counted(name: str, path: Path, shapes: Shapes, work: Workspace) -> Record:
    """One model."""
    begin = time.perf_counter()
    try:
        loaded = known_model(path, work)
        files = bound_files(loaded, [shapes], work, [None])
        bounds = Bounds(wall_s=300.0, memory_factor=24.0).for_size(loaded.size_bytes)
        sandbox = Sandbox("reading", str(path), bounds)
        (found,) = sandbox.call(cut, files.model_path, ({},))
    except (InfoptError, OSError, ValueError) as error:
        return {"model": name, "error": str(error)[:200]}
    return {"model": name, **_counts(found, loaded.op_counts), "s": time.perf_counter() - begin}


def _counts(found: Cut, kinds: Mapping[str, int]) -> Record:
    reasons = Counter(text.split(": ", 1)[1] for part in found.segments for text in part.reasons)
    return {
        "operators": found.operators,
        "covered": found.covered,
        "generated": found.generated,
        "parts": len(found.segments),
        "is_float": not any(word in kind for kind in kinds for word in _QUANTISED),
        "reasons": dict(reasons.most_common(8)),
    }


def summary(records: list[Record]) -> str:
    """Shares over all models, and over those without quantised operators."""
    lines = []
    counted = [record for record in records if "operators" in record]
    for text, chosen in (
        ("all models", counted),
        ("float models", [record for record in counted if record["is_float"]]),
    ):
        total = max(sum(record["operators"] for record in chosen), 1)
        covered = sum(record["covered"] for record in chosen) / total
        generated = sum(record["generated"] for record in chosen) / total
        lines.append(
            f"{text}: {len(chosen)} read, {total} operators, {covered:.1%} covered, "
            f"{generated:.1%} in generated parts"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
