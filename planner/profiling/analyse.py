"""What ONNX Runtime really executes: the optimised graph of a model, kernel by kernel."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from planner.graph import proto, weights
from planner.profiling.kernel import (
    Array,
    Kernel,
    Operand,
    captured_names,
    describe,
    value_digest,
)
from planner.profiling.timing import Sample, fast_interval, interleave, runner
from planner.runtime.ort import NO_PREPACKING, bind_all
from planner.runtime.refusals import ORT_ERRORS

_MESSAGE_LIMIT_BYTES = 1 << 30
"""Protobuf refuses messages of 2 GB; models above this size on disk may come to that."""
_SLOW_UNPACKED = frozenset({"MatMulNBits"})
"""Kernels that unpack all their weights in a run unless those were packed when loading."""
_EMBEDDED_BYTES = 1 << 16
"""Weights up to this size are read with the graph; larger ones stay on disk until their kernel is
timed, for a model may have gigabytes of them."""
LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(slots=True)
class Analysis:
    """An optimised model with the values that flowed through it on the sample feeds."""

    model: onnx.ModelProto
    kernels: list[Kernel]
    constants: dict[str, onnx.TensorProto]
    values: dict[str, Array]
    feeds: dict[str, Array]
    folder: Path
    """Where weights lie that the model only refers to; the analysis' own."""
    unmeasurable: dict[int, str] = field(default_factory=dict)
    """Kernel index -> why it cannot run alone (it reads a sequence or a map)."""

    def discard(self) -> None:
        """Removes its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def quiet_options(level: str) -> ort.SessionOptions:
    """Session options for measuring: the process' shared pool keeps sessions from fighting."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = LEVELS[level]
    options.use_per_session_threads = False
    return options


def _frugal_options(level: str) -> ort.SessionOptions:
    """The same for a session that runs once or never."""
    options = quiet_options(level)
    for key, value in NO_PREPACKING.items():
        options.add_session_config_entry(key, value)
    return options


def analyse(model_path: Path, level: str, feeds: Mapping[str, Array], folder: Path) -> Analysis:
    """Optimises the model at `level`, runs it once and describes every kernel it executes.

    Raises:
        RuntimeError and its kin, as ONNX Runtime raises them: the model cannot be loaded or run.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    return _describe_all(_optimised(model_path, level, own), dict(feeds), own)


def _optimised(model_path: Path, level: str, folder: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime makes of it; large weights lie in `folder`, by reference.

    ONNX Runtime leaves weights where they are that the source keeps outside and that no
    optimisation changed. Changed ones go into the file as long as it can hold them.
    """
    path = folder / "optimised.onnx"
    try:
        _write_optimised(model_path, level, path)
    except ORT_ERRORS:
        if _size_on_disk(model_path) <= _MESSAGE_LIMIT_BYTES:
            raise
        _write_optimised(model_path, level, path, data_name=path.name + ".data")
    model = onnx.load(path, load_external_data=False)
    path.unlink()
    _take_weights(model, model_path.parent, folder)
    return model


def _write_optimised(
    model_path: Path, level: str, path: Path, data_name: str | None = None
) -> None:
    """Args: data_name: of a file beside `path` that takes all weights."""
    options = _frugal_options(level)
    options.optimized_model_filepath = str(path)
    if data_name is not None:
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", data_name
        )
    ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])


def _take_weights(model: onnx.ModelProto, source: Path, folder: Path) -> None:
    """Files that the model refers to come into `folder`; small weights come into the model."""
    weights.bring(proto.tensors(model), source, folder)
    for tensor in proto.tensors(model):
        if weights.is_external(tensor) and proto.tensor_size_bytes(tensor) <= _EMBEDDED_BYTES:
            weights.embed(tensor, folder)


def _size_on_disk(model_path: Path) -> int:
    beside = model_path.parent.glob(model_path.name + "*")
    return sum(path.stat().st_size for path in beside if path.is_file())


def _describe_all(model: onnx.ModelProto, feeds: dict[str, Array], folder: Path) -> Analysis:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    values, other = _observe(model, feeds, folder)
    analysis = Analysis(model, [], constants, values, feeds, folder)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    for index, node in enumerate(model.graph.node):
        names = [name for name in (*node.input, *captured_names(node)) if name]
        unknown = [name for name in names if name not in constants and name not in values]
        if unknown:
            analysis.unmeasurable[index] = f"reads {unknown[0]!r}, which is not a tensor"
        outside = [name for name in node.output if name in other]
        if outside:
            analysis.unmeasurable[index] = f"makes {outside[0]!r}, which is not a tensor"
        operands = {name: _operand(name, node.op_type, constants, values) for name in names}
        constant_bytes = sum(
            _proto_size_bytes(constants[name]) for name in dict.fromkeys(names) if name in constants
        )
        outputs = {name: values[name] for name in node.output if name in values}
        analysis.kernels.append(describe(node, operands, opsets, outputs, constant_bytes))
    return analysis


def _operand(
    name: str,
    op_type: str,
    constants: Mapping[str, onnx.TensorProto],
    values: Mapping[str, Array],
) -> Operand:
    if name in constants:
        tensor = constants[name]
        dtype = onnx.TensorProto.DataType.Name(tensor.data_type)
        small = int(np.prod(tensor.dims, dtype=np.int64)) <= 64
        integral = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
        digest = ""
        if small and integral:
            digest = value_digest(onnx.numpy_helper.to_array(tensor), op_type)
        return Operand(name, dtype, tuple(tensor.dims), True, digest)
    if name not in values:
        return Operand(name, "not a tensor", (), False)
    value = values[name]
    return Operand(name, str(value.dtype), value.shape, False, value_digest(value, op_type))


def _proto_size_bytes(tensor: onnx.TensorProto) -> int:
    elements = int(np.prod(tensor.dims, dtype=np.int64))
    if tensor.data_type == onnx.TensorProto.STRING:
        return elements
    try:
        return elements * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        return elements


def _observe(
    model: onnx.ModelProto, feeds: Mapping[str, Array], folder: Path
) -> tuple[dict[str, Array], set[str]]:
    """Every tensor of one run, by name, and the names of outputs that are not tensors."""
    path = folder / "observed.onnx"
    _save_observed(model, path)
    is_slow = any(node.op_type in _SLOW_UNPACKED for node in model.graph.node)
    options = quiet_options("disabled") if is_slow else _frugal_options("disabled")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names, run = bind_all(session)
    results = run(dict(feeds))
    path.unlink()
    values = {
        name: value
        for name, value in zip(names, results, strict=True)
        if isinstance(value, np.ndarray)
    }
    values.update(feeds)
    made = {output.name for output in session.get_outputs()}
    return values, made - set(values)


def _save_observed(model: onnx.ModelProto, path: Path) -> None:
    """The model with every tensor as an output; the model itself is the same afterwards."""
    outputs = model.graph.output
    count = len(outputs)
    declared = {value.name for value in outputs}
    made = dict.fromkeys(name for node in model.graph.node for name in node.output if name)
    outputs.extend(onnx.ValueInfoProto(name=name) for name in made if name not in declared)
    path.write_bytes(model.SerializeToString())
    del outputs[count:]


def micro_inputs(
    analysis: Analysis, index: int
) -> tuple[dict[str, onnx.TensorProto], dict[str, Array]]:
    """The constants and activations that kernel `index` reads."""
    kernel = analysis.kernels[index]
    names = [name for name in dict.fromkeys((*kernel.inputs, *kernel.captured)) if name]
    constants = {
        name: _whole(analysis.constants[name], analysis.folder)
        for name in names
        if name in analysis.constants
    }
    activations = {name: analysis.values[name] for name in names if name not in constants}
    return constants, activations


def _whole(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """The tensor with its bytes; one that lies on disk is copied, so that it can be let go of."""
    if not weights.is_external(tensor):
        return tensor
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    weights.embed(copy, folder)
    return copy


def context_times_us(analysis: Analysis, runs: int) -> Iterator[tuple[str, float]]:
    """(node name, microseconds in the machine's fast state) of every kernel, read off a profile of
    the whole graph.

    Recording costs time of its own: much where a kernel runs a graph inside (`If`, `Loop`), whose
    nodes are recorded too. So times are scaled to what whole runs take that nobody records. The
    profile's clock ticks in whole microseconds: this is only for kernels that cannot run alone.
    """
    path = analysis.folder / "profiled.onnx"
    path.write_bytes(analysis.model.SerializeToString())
    plain_options, options = quiet_options("disabled"), quiet_options("disabled")
    options.enable_profiling = True
    options.profile_file_prefix = str(analysis.folder / "profile")
    plain, recorded = (
        ort.InferenceSession(str(path), each, providers=["CPUExecutionProvider"])
        for each in (plain_options, options)
    )
    samples = [Sample("run", runner(session, analysis.feeds)) for session in (plain, recorded)]
    interleave(samples, runs, warm_up=3)
    whole_us, recorded_us = (fast_interval(sample.times_us).median for sample in samples)
    profile = Path(recorded.end_profiling())
    for name, time_us in _kernel_times_us(profile):
        yield name, time_us * min(whole_us / recorded_us, 1.0)
    profile.unlink()
    path.unlink()


def _kernel_times_us(profile: Path) -> Iterator[tuple[str, float]]:
    import json

    suffix = "_kernel_time"
    times: dict[str, list[float]] = {}
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            times.setdefault(event["name"].removesuffix(suffix), []).append(event["dur"])
    for name, durations in times.items():
        yield name, fast_interval(durations).median
