"""benchmarks/predict.py on tables nobody has seen: what is predicted, what is skipped and why."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from benchmarks.predict import memory_cells, predict, save_rows, summary
from benchmarks.tables.hardware import device_of
from benchmarks.tables.kernels import kernel_of
from benchmarks.tables.precision import format_of
from benchmarks.tables.pricer import PRIOR
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.runtimes import RUNTIMES
from benchmarks.tables.scores import Predicted, degrees, rank_correlation, speedups
from benchmarks.tables.software import runtime_of
from benchmarks.tables.study import sort
from planner import resources
from planner.cost.curves import Library
from planner.cost.work import Attention, Product
from planner.spec.fits import FitFile, read_fits

COLUMNS = [name for name in Row.__dataclass_fields__ if name != "table"]
GEMM = {
    "source": "someone/somewhere",
    "model": "GEMM m=512 n=4096 k=4096",
    "gpu": "NVIDIA L40S",
    "n_gpus": "1",
    "tp": "1",
    "pp": "1",
    "precision": "bf16",
    "sparsity": "none",
    "batch": "512",
    "metric": "latency_us",
    "value": "100",
}
BERT = GEMM | {
    "model": "BERT-large",
    "gpu": "NVIDIA A10",
    "precision": "fp16",
    "batch": "8",
    "seq_in": "128",
    "metric": "latency_ms",
    "value": "10",
    "notes": "TensorRT 8.5",
}


@pytest.fixture(scope="module")
def files() -> list[FitFile]:
    return [read_fits(path) for path in resources.fits()]


def _row(**columns: str) -> Row:
    return Row(table="t", **{name: columns.get(name, "") for name in COLUMNS})


def _write(folder: Path, rows: list[dict[str, str]]) -> Path:
    with gzip.open(folder / "new.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "a column of the future"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_folder_is_predicted_scored_and_saved(tmp_path: Path, files: list[FitFile]) -> None:
    rows = [
        GEMM,
        BERT,
        BERT | {"metric": "throughput_seq_per_s", "value": "800"},
        GEMM | {"model": "quantum annealing"},
        GEMM | {"gpu": "Frobnicator 9000"},
        GEMM | {"precision": "fp4"},
        GEMM | {"gpu": "Tesla V100-SXM2-16GB", "precision": "fp8"},
        GEMM | {"value": "n/a"},
        BERT | {"value": "OOM", "gpu": "T4", "model": "GPT-3 175B"},
        GEMM | {"model": "all_reduce", "params": "size_bytes=1000000", "n_gpus": "4", "tp": "4"},
    ]
    tables = read_folder(_write(tmp_path, rows))
    sorted_rows = sort(tables)
    found = predict(sorted_rows, files, None)
    report = summary(tables, sorted_rows, found, Library(files))
    table = report["tables"]["new"]
    assert table["rows"] == 10
    assert table["predicted"] == 4
    reasons = " ".join(table["skipped"])
    for word in ("annealing", "Frobnicator", "fp4", "v100-sxm2-16gb lacks fp8", "no number"):
        assert word in reasons
    assert report["out_of_memory"] == {"cells": 3, "out": 1, "right": 1.0}
    for item in found:
        assert 0 < item.low <= item.expected <= item.high
    latency, rate = (p.expected for p in found if p.row.model == "BERT-large")
    assert rate == pytest.approx(8 / (latency / 1e3), rel=1e-6)
    save_rows(tmp_path / "rows.csv", found)
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        assert [float(r["predicted"]) > 0 for r in csv.DictReader(file)] == [True] * 4


def test_no_prediction_depends_on_the_value(tmp_path: Path, files: list[FitFile]) -> None:
    first = predict(sort(read_folder(_write(tmp_path, [GEMM, BERT]))), files, None)
    other = [row | {"value": "7777"} for row in (GEMM, BERT)]
    second = predict(sort(read_folder(_write(tmp_path, other))), files, None)
    for one, two in zip(first, second, strict=True):
        assert one.expected == pytest.approx(two.expected, rel=1e-9)


def test_cross_validation_leaves_out_what_it_predicts(tmp_path: Path, files: list[FitFile]) -> None:
    rows = [
        GEMM | {"model": f"GEMM m={m} n={n} k={n}", "value": str(5 + 2e-7 * m * n * n / 1e3)}
        for m in (16, 256, 2048)
        for n in (256, 512, 1024, 2048, 4096)
    ]
    sorted_rows = sort(read_folder(_write(tmp_path, rows)))
    assert len(predict(sorted_rows, files, "shape")) == len(rows)
    assert len(predict(sorted_rows, files, "device")) == len(rows)
    assert predict(sorted_rows, files, "model") == []


@pytest.mark.parametrize(("mode", "column"), [("model", "model"), ("device", "gpu")])
def test_no_row_tells_on_what_is_left_out(
    tmp_path: Path, files: list[FitFile], mode: str, column: str
) -> None:
    kinds = [
        {"model": model, "gpu": gpu, "batch": str(batch), "seq_in": str(length)}
        for model in ("BERT-base", "BERT-large")
        for gpu in ("NVIDIA A10", "Tesla T4")
        for batch in (1, 8, 64)
        for length in (64, 128)
    ]
    rows = [BERT | kind | {"value": str(1 + int(kind["batch"]) / 4)} for kind in kinds]
    first = predict(sort(read_folder(_write(tmp_path, rows))), files, mode)
    poisoned = [row | {"value": "900"} if row[column] == rows[0][column] else row for row in rows]
    second = predict(sort(read_folder(_write(tmp_path, poisoned))), files, mode)
    assert len(first) == len(second) == len(rows)

    def of(found: list[Predicted], *, left_out: bool) -> list[float]:
        same = (p for p in found if (getattr(p.row, column) == rows[0][column]) == left_out)
        return [p.expected for p in same]

    assert of(first, left_out=True) == pytest.approx(of(second, left_out=True), rel=1e-9)
    assert of(first, left_out=False) != pytest.approx(of(second, left_out=False), rel=0.05)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Tesla T4", "t4-16gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("H100 PCIe", "h100-pcie-80gb"),
        ("Tesla V100-PCIE-32GB", "v100-pcie-32gb"),
        ("NVIDIA L40S", "l40s-48gb"),
        ("NVIDIA A10G", "a10-24gb"),
        ("NVIDIA H200", "h200-sxm-141gb"),
        ("8x NVIDIA B200 SXM", "b200-sxm-180gb"),
        ("GH200 SXM", "gh200-96gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb"),
        ("GeForce RTX 2080Ti", "rtx-2080-ti-11gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada-48gb"),
        ("NVIDIA RTX A6000", "rtx-a6000-48gb"),
    ],
)
def test_devices_are_found_by_the_names_people_write(text: str, name: str) -> None:
    assert device_of(text).name == name


@pytest.mark.parametrize(
    ("precision", "sparsity", "name"),
    [
        ("bfloat16", "none", "bf16"),
        ("fp16 (AMP)", "none", "fp16"),
        ("int8 weight-only", "none", "int8_wo"),
        ("int4_wo", "none", "int4_wo"),
        ("sq", "none", "int8"),
        ("bf16", "2:4", "2:4"),
        ("int8", "2:4", "2:4_int8"),
        ("fp8", "none", "fp8"),
    ],
)
def test_formats_are_found_by_the_names_people_write(
    precision: str, sparsity: str, name: str
) -> None:
    assert format_of(precision, sparsity) == name


def test_kernels_are_understood_and_software_is_told_apart() -> None:
    row = _row(model="bmm B=8 M=96 N=64 K=128", precision="fp32")
    assert kernel_of(row) == Product(96, 128, 64, 8, "fp32")
    row = _row(
        model="generation_attention heads=32 kv_heads=8 head_dim=128",
        precision="bf16",
        batch="4",
        seq_in="512",
    )
    assert kernel_of(row) == Attention(4, 32, 8, 128, 1, 512, format="bf16")
    with pytest.raises(UnpredictableError, match="no batch"):
        kernel_of(_row(model="context_attention heads=8 kv_heads=8", precision="bf16", seq_in="9"))
    assert runtime_of(_row(notes="TensorRT 10.15.1 OSS")) == "tensorrt-10.15"
    assert runtime_of(_row(notes='column "TorchScript"')) == "torchscript"
    assert runtime_of(_row(source="a/b")) == "library"


def test_every_curve_of_software_knows_all_its_factors(files: list[FitFile]) -> None:
    curves = next(file.curves for file in files if file.device == RUNTIMES)
    assert {len(c.parameters) for key, c in curves.items() if key.startswith("elsewhere")} == {0}
    for key, curve in curves.items():
        if not key.startswith("elsewhere"):
            assert curve.parameters.keys() == PRIOR.keys(), key


def test_scores_of_order_and_ratios() -> None:
    import numpy as np

    assert rank_correlation(np.array([1.0, 2, 3]), np.array([2.0, 4, 9])) == pytest.approx(1)
    dense = Predicted(_row(**GEMM), 10, 9, 10, 11, "modelled")
    sparse = Predicted(_row(**GEMM | {"sparsity": "2:4"}), 12, 9, 11, 13, "modelled")
    found = speedups([dense, sparse])["2:4"]
    assert found["slower_named"] == 1
    assert found["median_error"] == pytest.approx(100 * ((10 / 11) / (10 / 12) - 1))
    two = Predicted(_row(**GEMM | {"tp": "2", "n_gpus": "2"}), 6, 5, 12, 13, "modelled")
    assert degrees([dense, two]) == {"pairs": 1, "right": 0}


def test_memory_is_judged_on_both_sides(tmp_path: Path) -> None:
    rows = [
        BERT | {"model": "OPT-30B", "gpu": "A100 80GB", "notes": ""},
        BERT | {"model": "OPT-30B", "gpu": "T4", "value": "out of memory"},
        BERT | {"model": "OPT-1.3B", "gpu": "T4", "value": "OOM"},
    ]
    cells = memory_cells(sort(read_folder(_write(tmp_path, rows))), Library([]))
    assert cells == {"cells": 3, "out": 2, "right": pytest.approx(2 / 3)}
