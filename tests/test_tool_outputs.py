"""Files as benchmarks write them, and cells as spreadsheets export them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tables.cells import joined_headings, unmerged, with_points, with_unit
from benchmarks.tables.documents import records_of
from benchmarks.tables.observations import Message, timed
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.study import Rows, sort
from planner.errors import UsageError

VLLM = {
    **{"backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "H100"},
    **{"dtype": "bf16", "tp": "1", "num_prompts": 320, "request_rate": "inf", "duration": 20.1},
    **{"max_concurrency": 32, "completed": 320, "total_input_tokens": 327680},
    **{"total_output_tokens": 40960, "output_throughput": 2060.0, "ttfts": [0.1, 0.2]},
    **{"mean_ttft_ms": 120, "std_ttft_ms": 30, "p99_ttft_ms": 400},
}
SGLANG = {
    **{"backend": "sglang", "model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "A100", "dtype": "bf16"},
    **{"max_concurrency": 16, "random_input_len": 1024, "random_output_len": 256},
    **{"sharegpt_output_len": None, "concurrency": 15.6, "mean_itl_ms": 14.2},
}
LLAMA_BENCH = {
    **{"gpu_info": "NVIDIA A100-SXM4-80GB", "model_type": "qwen2 7B Q8_0", "n_batch": 2048},
    **{"avg_ns": 5e7, "stddev_ns": 10, "avg_ts": 5600.5, "stddev_ts": 12.1, "samples_ts": [1, 2]},
}
TRTLLM = {
    "engine": {"model": "meta-llama/Llama-3.1-70B", "quantization": "FP8", "gpu": "H100"},
    "world_info": {"tp_size": 4, "max_batch_size": 256},
    "request_info": {
        **{"num_requests": 1000, "avg_num_concurrent_requests": 12.1},
        **{"avg_input_length": 2048, "avg_output_length": 128},
    },
    "performance": {"total_latency_ms": 1000.0, "system_output_throughput_tok_s": 1200.0},
}
GENAI_PERF = {
    "time_to_first_token": {"unit": "ms", "avg": 33.1, "p99": 40, "std": 3},
    "output_sequence_length": {"unit": "tokens", "avg": 128.0},
    "input_sequence_length": {"unit": "tokens", "avg": 512.0},
    "input_config": {
        "model_names": ["meta-llama/Llama-3.1-8B-Instruct"],
        **{"gpu": "H100", "dtype": "bf16"},
        "perf_analyzer": {"stimulus": {"concurrency": 1}},
    },
}


def read(tmp_path: Path, name: str, text: str) -> list[Row]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return next(iter(read_folder(tmp_path).values()))


def sorted_rows(rows: list[Row]) -> Rows:
    return sort({"t": rows})


@pytest.mark.parametrize(
    ("document", "metric", "cells"),
    [
        (VLLM, "mean_ttft_ms", ("32", "1024", "128")),
        (SGLANG, "mean_itl_ms", ("16", "1024", "256")),
        (LLAMA_BENCH | {"n_prompt": 512, "n_gen": 0}, "prefill_tokens/s", ("", "512", "")),
        (LLAMA_BENCH | {"n_prompt": 0, "n_gen": 128}, "decode_tokens/s", ("", "", "128")),
        (TRTLLM, "system_output_throughput_tok_s", ("12.1", "2048", "128")),
        (GENAI_PERF, "time_to_first_token_(ms)", ("1", "512.0", "128.0")),
    ],
)
def test_what_engines_save_is_read_with_its_sizes(
    tmp_path: Path, document: dict[str, object], metric: str, cells: tuple[str, str, str]
) -> None:
    rows = [row for row, _ in sorted_rows(read(tmp_path, "t.json", json.dumps(document))).wholes]
    (found,) = (row for row in rows if row.metric == metric)
    assert not any(row.metric.startswith("total_latency") for row in rows)
    assert (found.batch, found.seq_in, found.seq_out) == cells
    assert not any("std" in row.metric or row.metric.endswith("_ns") for row in rows)


def test_lines_and_lists_are_a_run_each(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(each) for each in (SGLANG, SGLANG))
    assert records_of(lines) == 2 * records_of(json.dumps(SGLANG))
    inner = {"gpu": "H100", "results": [{"batch": 1}, {"batch": 8, "gpu": "L4"}]}
    assert [list(each.values()) for each in records_of(json.dumps(inner))] == [
        *(["H100", "1"], ["L4", "8"])
    ]
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match=r"bad\.json is no table"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["1,5", "1.250,25"], ["1.5", "1250.25"]),
        (["3,25", "1.234"], ["3.25", "1234"]),
        (["1,5", "2.5"], ["1,5", "2.5"]),
        (["1,234", "5,678"], ["1,234", "5,678"]),
        (["1.234", "2"], ["1.234", "2"]),
    ],
)
def test_decimal_commas_are_told_by_their_column(cells: list[str], found: list[str]) -> None:
    records = [{"latency_ms": cell, "shape": "1,5"} for cell in cells]
    read = with_points(records, lambda name: name == "latency_ms")
    assert [record["latency_ms"] for record in read] == found
    assert {record["shape"] for record in read} == {"1,5"}


@pytest.mark.parametrize(
    ("metric", "value", "found"),
    [
        ("latency", "12.3 ms", ("latency (ms)", "12.3")),
        ("latency_ms", "12.3ms", ("latency_ms", "12.3")),
        ("latency_ms", "12.3 us", ("latency_ms", "12.3 us")),
        ("throughput", "830 img/s", ("throughput (img/s)", "830")),
        ("tokens/s", "450 tok/s", ("tokens/s", "450")),
        ("latency_ms", "about 3", ("latency_ms", "about 3")),
    ],
)
def test_units_in_cells_join_metrics_that_name_none(
    metric: str, value: str, found: tuple[str, str]
) -> None:
    assert with_unit(metric, value) == found


def test_merged_cells_hold_for_the_rows_below_them() -> None:
    records = [
        {"model": "a", "gpu": "b", "ms": "1"},
        {"model": "", "gpu": "", "ms": "2"},
        {"model": "", "gpu": "c", "ms": "3"},
        {"model": "d", "gpu": "", "ms": "4"},
    ]
    found = [list(record.values()) for record in unmerged(records)]
    assert found == [["a", "b", "1"], ["a", "b", "2"], ["a", "c", "3"], ["d", "", "4"]]


def test_headings_of_two_lines_are_one(tmp_path: Path) -> None:
    text = """,,,Latency (ms),,Throughput (img/s),
Model,GPU,dtype,BS=1,BS=8,BS=1,BS=8
resnet50,A100,fp16,1.2,3.1,830,2580
"""
    rows = read(tmp_path, "t.csv", text)
    assert [(row.batch, row.value) for row in rows] == [
        *(("1", "1.2"), ("8", "3.1"), ("1", "830"), ("8", "2580"))
    ]
    assert len(sorted_rows(rows).wholes) == 4
    assert joined_headings(["model", "gpu"], ["a", "b"]) is None
    assert joined_headings(["model", ""], ["a", "1.5"]) is None


def test_a_spreadsheet_with_commas_units_and_merged_cells(tmp_path: Path) -> None:
    text = """# measured by hand

GPU;model;Quantisation;batch;Latency;Build Time (s)
A100;resnet50;fp16;8;3,25 ms;90
;;;1.024;1.250,5 us;90
"""
    found = sorted_rows(read(tmp_path, "t.tsv", text)).wholes
    assert [(row.batch, row.metric) for row, _ in found] == [
        *(("8", "latency (ms)"), ("1024", "latency (us)"))
    ]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("all_reduce 16MB", 16e6), ("AllReduce (1 GiB)", 2**30), ("all_gather_64MiB", 2**26)),
        *(("all_reduce_perf 8M", 2**23), ("NCCL AllReduce 1048576 B", 2**20)),
        *(("ReduceScatter-128 MB", 128e6), ("all_reduce 8M", None), ("all_reduce 1MB 2MB", None)),
        ("all_reduce 256KB bf16 8 ranks", 256e3),
    ],
)
def test_messages_are_sized_by_their_names(tmp_path: Path, name: str, size: float | None) -> None:
    (row,) = read(tmp_path, "t.csv", f"collective,gpu,n_gpus,dtype,us\n{name},H100 SXM,8,fp16,9\n")
    if size is None:
        with pytest.raises(UnpredictableError, match="no message size"):
            timed(row)
        return
    found = timed(row)
    assert isinstance(found, Message)
    assert found.collective.size_bytes == size
