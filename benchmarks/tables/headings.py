"""What tables of other hands call their columns, and which of them hold what was measured.

A table that has a column by one of `Row`'s own names is read by it. Where that is absent, another
usual name serves; sizes in columns of their own are joined to what they are sizes of; and a table
without `value` has one measured value for each column whose heading is a metric with its unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.tables import metrics
from benchmarks.tables.sizes import whole

ALSO: Mapping[str, tuple[str, ...]] = {
    "source": ("reference", "repository", "repo", "paper", "url"),
    "model": ("model_name", "network", "kernel", "op", "operator", "operation", "workload", "name"),
    "params": ("parameters", "config", "configuration", "shape"),
    "gpu": (
        *("device", "gpu_name", "gpu_type", "gpu_model", "device_name", "device_type"),
        *("accelerator", "hardware", "card", "chip", "platform"),
    ),
    "n_gpus": ("num_gpus", "gpus", "ngpus", "gpu_count", "world_size", "ranks", "nranks"),
    "tp": ("tp_size", "tensor_parallel", "tensor_parallel_size", "tp_degree"),
    "pp": ("pp_size", "pipeline_parallel", "pipeline_parallel_size", "pp_degree"),
    "precision": ("dtype", "data_type", "datatype", "format", "quantization"),
    "sparsity": ("sparse",),
    "batch": ("batch_size", "batchsize", "bs", "bsz"),
    "seq_in": (
        *("input_len", "input_length", "isl", "seq_len", "seqlen", "sequence_length"),
        *("prompt_len", "prompt_length", "prompt_tokens", "input_tokens", "context_length"),
    ),
    "seq_out": (
        *("output_len", "output_length", "osl", "gen_len", "generation_length"),
        *("output_tokens", "generated_tokens", "max_new_tokens"),
    ),
    "metric": ("unit", "units"),
    "value": ("measured", "measurement", "result"),
    "notes": (
        *("note", "comment", "comments", "framework", "software", "backend", "runtime"),
        *("engine", "implementation", "library", "version"),
    ),
}
"""Column -> other names of it; of `notes` all that there are count."""
_OF_KERNELS = ("m", "n", "k", "heads", "kv_heads", "head_dim", "causal", "is_causal")
_OF_OTHERS = ("size_bytes", "message_size", "bytes", "layers", "hidden", "hidden_size", "num_heads")
_MARKS = ",;\t|"


def delimiter_of(head: str) -> str:
    """What separates the columns of a heading."""
    return max(_MARKS, key=head.count)


def name_of(heading: str) -> str:
    """A heading in one spelling: `GPU Name` is `gpu_name`, `batch-sizes` is `batch_size`, `# GPUs`
    is `num_gpus`."""
    name = re.sub(r"[\s\-]+", "_", heading.strip().lower())
    name = re.sub(r"^(?:#|no\._of_|number_of_|num_of_)_?", "num_", name)
    return re.sub(r"(_size|_name|_type|_length|seq_len)s$", r"\1", name)


def rows_of(record: Mapping[str, str], columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """A record as rows of one value each, by `Row`'s names.

    Args:
        record: cells by heading, `name_of` each.
        columns: `Row`'s names.
    """
    found = {column: _cell(record, column) for column in columns}
    if not found["model"] and all(record.get(name) for name in "mnk"):
        found["model"] = "gemm"
    found["model"] += _sizes(record, _OF_KERNELS, found["model"])
    found["params"] += _sizes(record, _OF_OTHERS, found["params"])
    is_named = any(name in record for name in ("value", *ALSO["value"]))
    measured = [] if is_named else [name for name in record if _is_metric(name)]
    for name in measured:
        yield {**found, "metric": name, "value": record[name]}
    if not measured:
        yield found


def _cell(record: Mapping[str, str], column: str) -> str:
    if column in record:
        return record[column]
    others = [record[name] for name in ALSO.get(column, ()) if record.get(name)]
    return " ".join(others) if column == "notes" else next(iter(others), "")


def _sizes(record: Mapping[str, str], names: Sequence[str], text: str) -> str:
    """Sizes in columns of their own, where the text does not state them."""
    stated = {name.lower() for name in re.findall(r"(\w+)\s*[=:]", text)}
    missing = (name for name in names if record.get(name) and name not in stated)
    return "".join(f" {name}={whole(record[name])}" for name in missing)


def _is_metric(name: str) -> bool:
    return metrics.latency_scale(name) is not None or metrics.is_rate(name)
