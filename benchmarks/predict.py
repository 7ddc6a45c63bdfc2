"""Predicts every row of a folder of measurement tables and says how right that was.

    python benchmarks/predict.py DIR [--json FILE] [--rows FILE.csv]
                                 [--cross-validate shape|device|model] [--fits profiles/fits]

Each row's kernel or model is built from its own columns and priced; its value is only compared.
Rows that cannot be predicted are counted by reason. Without --cross-validate, predictions are those
of the shipped fits: for tables that the fits were learnt from these are not a test. `shape` learns
from the folder itself and predicts each row by a fit that left its shape out; `device` predicts
each row without anything learnt on its chip; `model` without anything learnt on its model.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import weigh
from benchmarks.tables.reading import read_folder
from benchmarks.tables.results import read_results
from benchmarks.tables.rows import Row
from benchmarks.tables.runtimes import RUNTIMES
from benchmarks.tables.scores import Predicted, degrees, score, speedups
from benchmarks.tables.software import runtime_of
from benchmarks.tables.study import Rows, Study, sort
from benchmarks.tables.validation import unseen_devices, unseen_models, unseen_shapes
from planner.cost import memory
from planner.cost.curves import Library
from planner.errors import UsageError
from planner.spec.fits import FitFile, read_fits

RESULTS = Path(__file__).resolve().parent / "results"
"""What this project measured itself."""


def main() -> None:
    """Reads, predicts, scores, prints, saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path)
    parser.add_argument("--json", type=Path, help="scores per table")
    parser.add_argument("--rows", type=Path, help="every row with its prediction and interval")
    parser.add_argument("--cross-validate", choices=("shape", "device", "model"))
    parser.add_argument("--fits", type=Path, default=Path("profiles/fits"))
    options = parser.parse_args()
    if not options.tables.is_dir():
        parser.error(f"{options.tables} is no folder")
    try:
        tables = read_folder(options.tables)
    except UsageError as error:
        parser.error(str(error))
    if not tables:
        parser.error(f"{options.tables} holds no *.csv or *.csv.gz")
    rows = sort(tables)
    files = [read_fits(path) for path in sorted(options.fits.glob("*.yaml"))]
    found = predict(rows, files, options.cross_validate)
    report = summary(tables, rows, found, Library(files))
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.rows:
        save_rows(options.rows, found)


def predict(rows: Rows, files: Sequence[FitFile], mode: str | None) -> list[Predicted]:
    """Predictions in one of the four ways."""
    software = next((file.curves for file in files if file.device == RUNTIMES), {})
    study = Study(rows, Library(files), software)
    if mode == "shape":
        return unseen_shapes(study)
    if mode == "device":
        return unseen_devices(study, files, read_results(RESULTS))
    if mode == "model":
        return unseen_models(study)
    return study.shipped()


def summary(
    tables: Mapping[str, Sequence[Row]],
    rows: Rows,
    found: Sequence[Predicted],
    library: Library,
) -> dict[str, Any]:
    """Scores per table, and answers to a planner's questions over all tables."""
    by_table: dict[str, list[Predicted]] = defaultdict(list)
    for item in found:
        by_table[item.row.table].append(item)
    report: dict[str, Any] = {"tables": {}}
    for name, all_rows in tables.items():
        predicted = by_table.get(name, [])
        reasons = dict(rows.skipped[name])
        rest = len(all_rows) - len(predicted) - sum(reasons.values())
        rest -= sum(1 for row in rows.refused if row.table == name)
        if rest > 0:
            reasons["too few rows to leave any out"] = rest
        report["tables"][name] = {
            "rows": len(all_rows),
            "predicted": len(predicted),
            "skipped": reasons,
            **score(predicted),
        }
    report["degrees"] = degrees(found)
    report["speedups"] = speedups(found)
    report["out_of_memory"] = memory_cells(rows, library)
    report["offload"] = score([p for p in found if "generation_throughput" in p.row.metric])
    return report


def memory_cells(rows: Rows, library: Library) -> dict[str, float]:
    """Whether models that ran are predicted to fit, and those that did not, not to."""
    ran = [case.row for _, case in rows.wholes if case.model and case.placement is None]
    cells = [*((r, True) for r in (*ran, *rows.memories)), *((r, False) for r in rows.refused)]
    right = 0
    for row, fits in cells:
        model = memory.find(library, runtime_of(row))
        needed = float(memory.total_gb(weigh.features([row]), model.factors)[0])
        right += (needed <= weigh.capacity_gb(row)) == fits
    total = len(cells)
    return {"cells": total, "out": len(rows.refused), "right": right / total} if total else {}


def show(report: Mapping[str, Any]) -> None:
    """A line a table, then reasons and questions."""
    head = ("rows", "skipped", "median", "mean", "p90", "worst", "bias", "rank", "inside")
    print(f"{'table':24}" + "".join(f"{name:>9}" for name in head))
    keys = ("median_ape", "mean_ape", "p90_ape", "max_ape", "bias")
    for name, found in report["tables"].items():
        skipped = sum(found["skipped"].values())
        line = f"{name[:24]:24}{found['rows']:9}{skipped:9}"
        if found["predicted"]:
            line += "".join(f"{found[key]:8.1f}%" for key in keys)
            line += f"{found['rank_correlation']:9.3f}{found['coverage']:9.1%}"
        print(line)
    for name, found in report["tables"].items():
        for reason, count in found["skipped"].items():
            print(f"  {name}: {count} skipped: {reason}")
    for question in ("degrees", "out_of_memory", "offload"):
        if report[question]:
            print(question, {k: round(v, 3) for k, v in report[question].items()})
    for name, answer in report["speedups"].items():
        print(f"speed-up {name}", {k: round(v, 3) for k, v in answer.items()})


def save_rows(path: Path, found: Sequence[Predicted]) -> None:
    """Every row with its prediction and interval, in the row's own unit."""
    columns = [name for name in Row.__dataclass_fields__ if name != "value"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "measured", "predicted", "low", "high", "prediction_source"])
        for item in found:
            values = [getattr(item.row, name) for name in columns]
            numbers = [f"{x:.6g}" for x in (item.measured, item.expected, item.low, item.high)]
            writer.writerow([*values, *numbers, item.source])


if __name__ == "__main__":
    main()
