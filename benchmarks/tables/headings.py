"""What tables of other hands call their columns, and which of them hold what was measured.

A table that has a column by one of `Row`'s own names is read by it. Where that is absent, another
usual name serves; sizes in columns of their own are joined to what they are sizes of; and a table
without `value` has one measured value for each column whose heading is a metric with its unit.
A size whose heading names the unit (`message size (MB)`) takes it along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.tables import metrics
from benchmarks.tables.cells import with_unit
from benchmarks.tables.servers import OF_LLAMA_BENCH, beside, is_of_a_run, serve, spread_over_nodes
from benchmarks.tables.sizes import whole

ALSO: Mapping[str, tuple[str, ...]] = {
    "source": ("reference", "repository", "repo", "paper", "url"),
    "model": (
        *(
            "model_name",
            "model_id",
            "model_path",
            "network",
            "kernel",
            "op",
            "operator",
            "operation",
        ),
        *("workload", "name", "kernel_name", "op_name", "collective", "benchmark"),
        *("model_names", "model_type", "model_filename", "mlperf_model"),
    ),
    "params": ("parameters", "config", "configuration", "shape", "matmul_shape"),
    "gpu": (
        *("device", "gpu_name", "gpu_type", "gpu_model", "device_name", "device_type"),
        *("accelerator", "hardware", "hw", "card", "chip", "platform", "system"),
        *("gpu_info", "accelerator_model_name"),
    ),
    "n_gpus": (
        *("num_gpus", "gpus", "ngpus", "gpu_count", "world_size", "ranks", "nranks"),
        *("num_accelerators", "num_of_accelerators", "a", "num_devices", "num_ranks", "num_gpu"),
    ),
    "tp": ("tp_size", "tensor_parallel", "tensor_parallel_size", "tp_degree", "tensor_parallelism"),
    "pp": (
        *("pp_size", "pipeline_parallel", "pipeline_parallel_size", "pp_degree"),
        "pipeline_parallelism",
    ),
    "precision": (
        *(
            "quantization",
            "quantisation",
            "quant",
            "quantization_method",
            "quant_type",
            "torch_dtype",
        ),
        *("gemm_dtype", "attn_dtype", "moe_dtype", "mla_dtype", "weight_dtype"),
        *("dtype", "data_type", "datatype", "format", "dtypea", "dtype_a", "model_dtype"),
        "technique",
    ),
    "sparsity": ("sparse",),
    "batch": (
        *("batch_size", "batchsize", "bs", "bsz", "batch_count", "global_batch_size"),
        *(
            "max_concurrency",
            "concurrency",
            "avg_num_concurrent_requests",
            "conc",
            "concurrent_requests",
            "num_concurrent_requests",
        ),
        *("concurrent_users", "num_users", "users", "num_clients", "clients", "max_num_seqs"),
    ),
    "seq_in": (
        *("input_len", "input_length", "isl", "seq_len", "seqlen", "sequence_length"),
        *("random_input_len", "sharegpt_input_len", "avg_input_length"),
        *("prompt_len", "prompt_length", "prompt_tokens", "input_tokens", "context_length"),
        *("input_sequence_length", "input_seq_len", "num_input_tokens", "input"),
    ),
    "seq_out": (
        *("output_len", "output_length", "osl", "gen_len", "generation_length"),
        *("random_output_len", "sharegpt_output_len", "avg_output_length"),
        *("output_tokens", "generated_tokens", "max_new_tokens", "max_tokens", "new_tokens"),
        *("completion_tokens", "completion_len", "completion_length", "generated_length"),
        *("output_sequence_length", "output_seq_len", "num_output_tokens", "output"),
    ),
    "metric": ("unit", "units"),
    "value": ("measured", "measurement", "result"),
    "notes": (
        *("note", "comment", "comments", "framework", "software", "backend", "runtime"),
        *("engine", "implementation", "library", "version", "scenario", "parallelism"),
        *("serving_engine", "inference_engine", "serving_framework", "inference_framework"),
    ),
}
"""Column -> other names of it; of `notes` all that there are count."""
_OF_KERNELS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("m", "n", "k"), ()),
    "heads": ("nheads", "numheads", "n_heads", "num_heads", "q_heads", "num_q_heads", "qo_heads"),
    "kv_heads": ("nheads_kv", "n_kv_heads", "num_kv_heads", "num_key_value_heads"),
    "head_dim": ("headdim", "hdim", "head_size"),
    "q_len": ("seqlen_q", "seq_len_q", "query_len"),
    "kv_len": ("seqlen_k", "seq_len_k", "kv_seq_len", "cache_len"),
    "causal": ("is_causal",),
    "rows": (),
    "cols": ("columns",),
    "elements": ("num_elements", "n_elements", "numel"),
    "in_channels": ("channels_in", "c_in", "cin", "c"),
    "out_channels": ("channels_out", "c_out", "cout"),
    "height": ("input_height", "in_h", "h"),
    "width": ("input_width", "in_w", "w"),
    "kernel_size": ("filter_size", "kernel", "r"),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "v_head_dim"), ()),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), ()),
    **dict.fromkeys(("stride", "padding", "groups"), ()),
}
"""Size of a kernel -> other headings of it."""
_OF_OTHERS: Mapping[str, tuple[str, ...]] = {
    "size_bytes": ("message_size", "size", "bytes"),
    **dict.fromkeys(("layers", "hidden", "hidden_size", "num_heads"), ()),
    "resolution": ("image_size", "img_size", "input_resolution", "input_size", "input_shape"),
    "tokens": ("num_tokens",),
    "inter_size": ("intermediate_size", "moe_intermediate_size", "moe_inter_size"),
    "experts": ("num_experts",),
    **dict.fromkeys(("topk", "moe_tp_size", "moe_ep_size"), ()),
    "dp_attention": ("enable_dp_attention", "attention_dp", "dp_attn"),
    "steps": ("num_steps", "num_inference_steps", "denoising_steps"),
    "devices_per_node": ("gpus_per_node",),
}
"""Size of anything larger, or of a message -> other headings of it."""
_UNIT = re.compile(r"_?[(\[]([kmgt]?i?b|bytes)[)\]]$")
"""Of a size, in its heading."""
_BATCH = re.compile(r"_?\(?(?<![a-z])(?:bs|batch(?:_size)?)[_=]?(\d+)(?!\d)\)?")
"""A batch in the heading of what was measured: `latency_ms_bs8`, `batch_8_(ms)`."""
_SPREADS = re.compile(r"(?:^|_)(?:std|stdev|stddev|stdv|deviation|variance|var|cv)(?:_|$)")
"""Headings of how far measurements scatter."""
_MARKS = ",;\t|"
_ABSENT = frozenset({"-", "--", "\u2013", "\u2014", "n/a", "na", "none", "null", "nan"})
_NOT_QUANTISED = frozenset({"no", "false", "off", "unquantized", "original", "baseline"})
"""What columns of quantisation say where another tells the format."""


def delimiter_of(head: str) -> str:
    """What separates the columns of a heading."""
    return max(_MARKS, key=head.count)


def name_of(heading: str) -> str:
    """A heading in one spelling: `GPU Name` is `gpu_name`, `batch-sizes` is `batch_size`, `# GPUs`
    is `num_gpus`, `infer_batch_size` is `batch_size`."""
    name = re.sub(r"[\s\-]+", "_", heading.strip().lower())
    name = re.sub(r"^(?:#|no\._of_|number_of_|num_of_)_?", "num_", name)
    name = re.sub(r"^(?:infer(?:ence)?|eval)_(?=batch|im(?:a)?g(?:e)?_|seq|input)", "", name)
    return re.sub(r"(_size|_name|_type|_length|seq_len)s$", r"\1", name)


def rows_of(record: Mapping[str, str], columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """A record as rows of one value each, by `Row`'s names.

    Args:
        record: cells by heading, `name_of` each.
        columns: `Row`'s names.
    """
    record = dict(_with_units(record))
    found = {column: _cell(record, column) for column in columns}
    sized = all(record.get(name) for name in "mnk") or record.get("matmul_shape")
    found["model"] = found["model"] or ("gemm" if sized else "")
    found["model"] += _sizes(record, _OF_KERNELS, found["model"])
    found["params"] += _sizes(record, _OF_OTHERS, found["params"])
    spread_over_nodes(found, record)
    serve(found, record)
    is_named = any(name in record for name in ("value", *ALSO["value"]))
    measured = [] if is_named else [name for name in record if _is_measured(name, record)]
    if not measured and not is_named:
        measured = [name for name in record if metrics.is_latency_without_unit(name)][:1]
    for name in measured:
        if not is_of_a_run(name, record):
            yield _valued({**found, "value": record[name]}, beside(name, record))
    if not measured:
        yield _valued(found, found["metric"])


def _valued(found: dict[str, str], metric: str) -> dict[str, str]:
    """A row with its metric; a batch in the heading is the row's (`latency_ms_bs8`), a unit in the
    cell the metric's."""
    batch = None if found["batch"] else _BATCH.search(metric)
    if batch:
        found = {**found, "batch": batch[1]}
        metric = f"{metric[: batch.start()]}{metric[batch.end() :]}".strip("_")
    metric, value = with_unit(metric, found["value"])
    return {**found, "metric": metric, "value": value}


def is_number(name: str) -> bool:
    """Whether a column holds measured numbers."""
    is_untold = metrics.is_latency_without_unit(name)
    return is_untold or name in ("value", *ALSO["value"]) or _is_metric(name)


def _with_units(record: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The record, with units of sizes behind these instead of in their headings."""
    for name, cell in record.items():
        unit = None if _is_metric(name) else _UNIT.search(name)
        if unit is None:
            yield name, cell
            continue
        in_bytes = unit[1] in ("b", "bytes")
        yield name[: unit.start()], cell if in_bytes or not cell else f"{cell}{unit[1]}"


def _cell(record: Mapping[str, str], column: str) -> str:
    if column in record:
        return record[column]
    cells = (record.get(name, "") for name in ALSO.get(column, ()))
    absent = _ABSENT | _NOT_QUANTISED if column == "precision" else _ABSENT
    others = [cell for cell in cells if cell and cell.lower() not in absent]
    if column == "model":  # a `kernel` of 3 is the size of one
        others = [other for other in others if not re.fullmatch(r"[\d.x() ]+", other)]
    return " ".join(others) if column == "notes" else next(iter(others), "")


def _sizes(record: Mapping[str, str], names: Mapping[str, Sequence[str]], text: str) -> str:
    """Sizes in columns of their own, where the text does not state them."""
    stated = {name.lower() for name in re.findall(r"(\w+)\s*[=:]", text)}
    cells = {
        name: next((record[each] for each in (name, *others) if record.get(each)), "")
        for name, others in names.items()
        if name not in stated
    }
    return "".join(
        f" {name}={whole(cell)}" for name, cell in cells.items() if cell not in ("", text)
    )


def _is_measured(name: str, record: Mapping[str, str]) -> bool:
    """Whether a column is a metric, by its heading or by the unit in its cell."""
    is_told = metrics.is_latency_without_unit(name) and with_unit(name, record[name])[0] != name
    return is_told or _is_metric(name)


def _is_metric(name: str) -> bool:
    if _SPREADS.search(name):
        return False
    return (
        name == OF_LLAMA_BENCH
        or metrics.latency_scale(name) is not None
        or metrics.is_rate(name)
        or re.search(r"(?:peak|max|used)_(?:gpu_)?mem|memory_(?:usage|used)|footprint", name)
        is not None
    )
