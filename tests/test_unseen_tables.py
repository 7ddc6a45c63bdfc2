"""benchmarks/predict.py on tables of other hands: devices, units, cells and headers not seen."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.predict import predict, summary
from benchmarks.tables import metrics
from benchmarks.tables.hardware import device_of
from benchmarks.tables.kernels import kernel_of, kernel_us
from benchmarks.tables.precision import format_of
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.scores import Predicted
from benchmarks.tables.study import sort
from benchmarks.tables.wholes import whole_of
from planner import resources
from planner.cost.curves import Library
from planner.cost.machine import Machine
from planner.cost.work import Product
from planner.spec.fits import FitFile, read_fits

COLUMNS = [name for name in Row.__dataclass_fields__ if name != "table"]
GEMM = {
    "source": "someone/somewhere",
    "model": "GEMM m=8192 n=8192 k=8192",
    "gpu": "NVIDIA L40S",
    "precision": "fp16",
    "sparsity": "none",
    "batch": "8192",
    "metric": "latency_us",
    "value": "4000",
}
LLAMA = {
    "source": "someone/somewhere",
    "model": "Llama-2-7B",
    "gpu": "H100",
    "tp": "1",
    "precision": "fp16",
    "batch": "4",
    "seq_in": "512",
    "seq_out": "32",
    "metric": "latency_ms",
    "value": "200",
}
BERT = LLAMA | {"model": "BERT-large", "gpu": "A10", "seq_in": "128", "seq_out": "", "batch": "8"}
CHIPS = (
    "L40S",
    "A10",
    "B200",
    "L4",
    "A30",
    "H20",
    "RTX 4090",
    "Tesla P100",
    "V100-SXM2-32GB",
    "MI300X",
)


@pytest.fixture(scope="module")
def files() -> list[FitFile]:
    return [read_fits(path) for path in resources.fits()]


def row(columns: Mapping[str, str]) -> Row:
    return Row(table="t", **{name: columns.get(name, "") for name in COLUMNS})


def write(path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def predicted(rows: Iterable[Mapping[str, str]], files: list[FitFile]) -> list[Predicted]:
    return predict(sort({"t": [row(each) for each in rows]}), files, None)


def skipped(columns: Mapping[str, str]) -> str:
    """Why a row is not predicted."""
    with pytest.raises(UnpredictableError) as why:
        _read(row(columns))
    return str(why.value)


def _read(found: Row) -> None:
    assert found.measured > 0
    if kernel_of(found) is None:
        whole_of(found)


def test_no_chip_is_foretold_above_its_datasheet(files: list[FitFile]) -> None:
    rows = [
        GEMM | {"gpu": gpu, "precision": format, "model": f"GEMM m={m} n=8192 k=8192"}
        for gpu in CHIPS
        for format in ("fp16", "bf16", "fp8", "int8", "int8_wo", "int4_wo", "tf32", "fp32")
        for m in (1, 64, 1024, 8192)
    ]
    found = predicted(rows, files)
    assert len(found) > len(rows) / 2
    for one in found:
        work, machine = kernel_of(one.row), Machine.of(device_of(one.row.gpu))
        assert isinstance(work, Product)
        moved_us = (work.size_bytes - machine.cache_size_bytes) / machine.bandwidth
        least = max(work.flops / machine.rate(work.format), moved_us)
        uncached = max(least, work.size_bytes / machine.bandwidth)
        assert least * 0.999 < one.expected < 8 * uncached + 20, one.row
        assert one.low < one.expected < one.high


def test_larger_products_take_longer_on_chips_nobody_measured(files: list[FitFile]) -> None:
    for gpu in CHIPS:
        rows = [GEMM | {"gpu": gpu, "model": f"GEMM m={2**p} n=8192 k=8192"} for p in range(4, 14)]
        us = [one.expected for one in predicted(rows, files)]
        assert all(later > earlier * 0.95 for earlier, later in pairwise(us)), gpu
        assert us[-1] > 4 * us[0]


@pytest.mark.parametrize(
    "gpu",
    [
        "RTX 5070",
        "RTX 3080 Ti",
        "RTX 4080 Laptop",
        "MI100",
        "MI300A",
        "Gaudi2",
        "TPU v5e",
        "K80",
        "A2",
        "GB300",
    ],
)
def test_chips_without_a_profile_are_skipped_by_name(gpu: str) -> None:
    with pytest.raises(UnpredictableError, match=f"no profile for the device '{gpu}'"):
        device_of(gpu)


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("8xA100 80GB", "a100-sxm-80gb"),
        ("4 x L40S", "l40s-48gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("DGX A100", "a100-sxm-80gb"),
    ],
)
def test_how_many_there_are_does_not_hide_what_they_are(gpu: str, name: str) -> None:
    assert device_of(gpu).name == name


def test_formats_a_chip_lacks_are_skipped_with_both_names(files: list[FitFile]) -> None:
    rows = sort({"t": [row(GEMM | {"gpu": "A100-SXM4-80GB", "precision": "fp8"})]})
    assert predict(rows, files, None) == []
    assert dict(rows.skipped["t"]) == {"a100-sxm-80gb lacks fp8": 1}


@pytest.mark.parametrize(
    ("sparsity", "format"),
    [("dense", "fp16"), ("0", "fp16"), ("-", "fp16"), ("2/4", "2:4"), ("50% 2:4", "2:4")],
)
def test_how_a_table_writes_sparsity(sparsity: str, format: str) -> None:
    assert format_of("fp16", sparsity) == format
    with pytest.raises(UnpredictableError, match="sparsity 'unstructured 90%' is not modelled"):
        format_of("fp16", "unstructured 90%")
    assert skipped(GEMM | {"model": "sparse GEMM m=1 n=2 k=3", "sparsity": ""}).startswith("a spar")


@pytest.mark.parametrize(
    "model",
    [
        "gemm M=128,N=4096,K=512",
        "Gemm m: 128 n: 4096 k: 512",
        "matmul 128x4096x512",
        "GEMM (128, 4096, 512)",
        "gemm_m128_n4096_k512",
        "cublasGemmEx m=128 n=4096 k=512",
        "Llama-2-7B q_proj m=128 n=4096 k=512",
    ],
)
def test_products_are_read_however_they_are_written(model: str) -> None:
    assert kernel_of(row(GEMM | {"model": model})) == Product(128, 4096, 512)


@pytest.mark.parametrize(
    ("model", "format"),
    [
        *(("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "int8_wo"), ("Qwen2.5-7B-GPTQ-Int4", "int4_wo")),
        *(
            ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "int4_wo"),
            ("llama-2-7b.Q8_0.gguf", "int8_wo"),
        ),
        *(("Meta-Llama-3.1-8B-Instruct-IQ4_XS.gguf", "int4_wo"), ("llama3.1:8b", "bf16")),
        *(("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"), ("Llama-3.1-8B-8bit", "int8_wo")),
        *(("deepseek-ai/DeepSeek-V3-0324", "fp8"), ("unsloth/DeepSeek-R1-BF16", "bf16")),
        *(("deepseek-r1:14b", "bf16"), ("DeepSeek-R1-Distill-Qwen-32B", "bf16")),
    ],
)
def test_names_say_how_weights_are_kept(model: str, format: str) -> None:
    found = whole_of(row(LLAMA | {"model": model, "precision": "bfloat16"}))
    assert found.format == format


@pytest.mark.parametrize(
    ("model", "format"),
    [
        *(("nvidia/Llama-3.1-405B-Instruct-FP4", "fp4"), ("Llama-3-8B-Q6_K.gguf", "q6_k")),
        *(("Llama-3-8B-IQ2_XS", "iq2_xs"), ("nvidia/DeepSeek-R1-NVFP4", "nvfp4")),
    ],
)
def test_weights_kept_in_other_formats_are_no_16_bits(model: str, format: str) -> None:
    assert skipped(LLAMA | {"model": model, "precision": "bf16"}).startswith(f"format '{format}'")


@pytest.mark.parametrize("model", ["moe m=1 n=2 k=3 experts=8", "grouped_gemm m=1 n=2 k=3"])
def test_what_is_more_than_one_product_is_none(model: str) -> None:
    assert "is unknown" in skipped(GEMM | {"model": model})


@pytest.mark.parametrize(
    ("metric", "scale"),
    [
        ("\u00b5s", 1.0),
        ("latency_\u03bcs", 1.0),
        ("milliseconds", 1e3),
        ("latency_microseconds", 1.0),
        ("latency [s]", 1e6),
        ("sec", 1e6),
        ("runtime_nanoseconds", 1e-3),
        ("TFLOP/s", None),
        ("speedup", None),
        ("items/s", None),
    ],
)
def test_units_are_read_as_words_and_signs(metric: str, scale: float | None) -> None:
    assert metrics.latency_scale(metric) == scale


def test_rates_are_read_in_their_unit() -> None:
    work = Product(128, 4096, 512)
    at = GEMM | {"model": "GEMM m=128 n=4096 k=512", "value": "50"}
    for metric, scale in (("TFLOP/s", 1e6), ("Gflops", 1e3), ("TOPS", 1e6), ("PFLOPS", 1e9)):
        assert kernel_us(row(at | {"metric": metric}), work) == work.flops / (50 * scale)
    for metric, scale in (("GB/s", 1e3), ("MB/s", 1.0), ("bandwidth_TB/s", 1e6)):
        us = kernel_us(row(at | {"metric": metric}), work)
        assert us == pytest.approx(work.size_bytes / (50 * scale))
    assert "not predicted" in skipped(BERT | {"metric": "TFLOP/s"})


@pytest.mark.parametrize(
    ("metric", "scale"),
    [
        *(("busbw_GB/s", 1.0), ("busbw_GBps", 1.0), ("algbw (GBytes/s)", 1.0), ("busbw", 1.0)),
        *(("busbw Gbps", 0.125), ("Gbit/s", 0.125), ("algbw_Gb/s", 0.125), ("Tbits/s", 125.0)),
        *(("bandwidth_MBps", 1e-3), ("GiB/s", 2**30 / 1e9), ("bandwidth_gb/s", 1.0)),
    ],
)
def test_bits_are_an_eighth_of_bytes(metric: str, scale: float) -> None:
    assert metrics.bandwidth_kind(metric) is not None
    assert metrics.bandwidth_scale(metric) == pytest.approx(scale)


def test_bandwidths_that_may_be_bits_or_bytes_are_refused() -> None:
    with pytest.raises(UnpredictableError, match="bits or bytes"):
        metrics.bandwidth_scale("busbw_(gbps)")


def test_throughputs_count_what_they_name() -> None:
    counts = {"sequences/sec": 8, "it/s": 1, "tokens_per_s": 8 * 128, "tokens/s/gpu": 8 * 128}
    for metric, count in counts.items():
        assert whole_of(row(BERT | {"metric": metric})).value(1e6) == pytest.approx(count)
    assert whole_of(row(LLAMA | {"metric": "tokens/s"})).value(1e6) == pytest.approx(4 * 32)


def test_serving_engines_gain_from_more_devices(files: list[FitFile]) -> None:
    """Their own all-reduce starts fast enough for one token of a model of 7B on NVLink."""
    at = LLAMA | {"metric": "tpot_ms", "notes": "TensorRT-LLM 0.9"}
    rows = [at | {"tp": str(n), "n_gpus": str(n)} for n in (1, 2, 4)]
    us = [one.expected for one in predicted(rows, files)]
    assert us[0] > us[1] > us[2]


@pytest.mark.parametrize(
    ("column", "text", "number"),
    [("batch", "1,024", 1024), ("tp", "TP4", 4), ("n_gpus", "8x", 8), ("seq_in", "2048.0", 2048)],
)
def test_counts_are_read_with_their_marks(column: str, text: str, number: int) -> None:
    assert row(LLAMA | {column: text}).number(column) == number


@pytest.mark.parametrize("text", ["", "-", "N/A", "none", "\u2014"])
def test_what_does_not_apply_is_absent(text: str) -> None:
    assert row({"pp": text}).number("pp", 1) == 1
    with pytest.raises(UnpredictableError, match="no pp"):
        row({"pp": text}).number("pp")


@pytest.mark.parametrize("text", ["2k", "128/128", "many"])
def test_counts_that_are_none_are_refused(text: str) -> None:
    assert "is no number" in skipped(LLAMA | {"seq_in": text})


def test_values_with_thousands_and_without_sense() -> None:
    assert row(GEMM | {"value": "1,234.5"}).measured == 1234.5
    for value in ("1.234,5", "100 ms", "~100", "12,34"):
        assert skipped(GEMM | {"value": value}) == "the value is no number"
    assert skipped(GEMM | {"value": ""}) == "no value"


def test_a_folder_of_many_hands(tmp_path: Path, files: list[FitFile]) -> None:
    """Missing columns, other cases and orders, marks and line ends, empty tables, several kinds."""
    least = ["Value", " Model", "GPU", "Precision", "metric"]
    head = [name.strip().lower() for name in least]
    line = ",".join(f'"{GEMM[name]}"' for name in head)
    text = ",".join(least) + f"\r\n{line}\r\n\r\n{line},and,more\r\nGEMM\r\n"
    (tmp_path / "crlf.csv").write_text("\ufeff" + text, encoding="utf-8", newline="")
    (tmp_path / "zero.csv").write_text("")
    (tmp_path / "strange.csv").write_text("a,b\n1,2\n")
    write(tmp_path / "empty.csv", [])
    reduced = GEMM | {"model": "all_reduce", "params": "size_bytes=1000000", "n_gpus": "4"}
    weighed = LLAMA | {"metric": "memory_GB", "value": "20"}
    write(tmp_path / "kinds.csv", [GEMM, LLAMA, BERT, reduced, weighed])
    tables = read_folder(tmp_path)
    rows = sort(tables)
    report = summary(tables, rows, predict(rows, files, None), Library(files))["tables"]
    found = {name: (one["rows"], one["predicted"]) for name, one in report.items()}
    assert found == {
        "crlf": (3, 2),
        "zero": (0, 0),
        "strange": (1, 0),
        "empty": (0, 0),
        "kinds": (5, 5),
    }
    assert report["strange"]["skipped"] == {"no value": 1}


def test_attention_is_as_sure_as_its_heads_and_its_library_are_known(files: list[FitFile]) -> None:
    known = GEMM | {
        "source": "ai-dynamo/aiconfigurator",
        "model": "context_attention heads=32 kv_heads=32 head_dim=128",
        "gpu": "A100-SXM4-80GB",
        "precision": "bf16",
        "batch": "4",
        "seq_in": "2048",
    }
    narrow = known | {"model": "context_attention heads=32 kv_heads=32 head_dim=64"}
    other = known | {"source": "someone/else"}
    widths = [one.high / one.low for one in predicted([known, narrow, other], files)]
    assert widths[0] < 1.5
    assert min(widths[1:]) > 2


def test_what_several_devices_share_is_less_sure_than_one_device(files: list[FitFile]) -> None:
    one = {"model": "GPT-6.7B", "gpu": "A100-SXM4-80GB", "notes": "FT"}
    rows = [LLAMA | one | {"tp": tp, "n_gpus": tp} for tp in ("1", "8")]
    alone, shared = (each.high / each.low for each in predicted(rows, files))
    assert alone < 2 < shared
