"""The one place where SessionSettings become an ONNX Runtime session.

Why nothing falls back: ONNX Runtime silently runs on the CPU when a provider cannot be loaded, and
a plan priced on one device would then be promised on another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from planner.errors import EnvironmentMismatchError, ModelError, UsageError
from planner.runtime import dtypes
from planner.runtime.device_run import DeviceRun, can_bind, wants_host
from planner.runtime.refusals import ORT_ERRORS, load_error, reason_of
from planner.spec.manifest import TensorSpec
from planner.spec.session import GraphLevel, SessionSettings

BoundRun = Callable[[dict[str, Any]], list[Any]]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LEVELS = {
    GraphLevel.DISABLED: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    GraphLevel.BASIC: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    GraphLevel.EXTENDED: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    GraphLevel.ALL: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
NO_PREPACKING = {"session.disable_prepacking": "1"}
"""`extra` settings of sessions that run once or never: they do without a copy of all weights in the
layout that kernels like best."""
_QUIET = 4
"""Fatal only: what matters is raised, not printed."""
onnxruntime.set_default_logger_severity(_QUIET)


def session_options(settings: SessionSettings) -> Any:
    """`onnxruntime.SessionOptions` for these settings.

    Raises:
        UsageError: an `extra` entry ONNX Runtime does not take.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.intra_op_num_threads = settings.intra_op_threads
    options.graph_optimization_level = _LEVELS[settings.graph_level]
    spinning = "1" if settings.spinning else "0"
    entries = {"session.intra_op.allow_spinning": spinning, **settings.extra}
    for key, value in entries.items():
        try:
            options.add_session_config_entry(key, value)
        except ORT_ERRORS as error:
            raise UsageError(reason_of(error), where=f"settings.extra[{key[:40]!r}]") from None
    return options


def make_session(
    source: Path | bytes,
    settings: SessionSettings,
    *,
    has_arena: bool = True,
    stream: int | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession` of an ONNX file (or its bytes, without external data).

    Args:
        has_arena: whether it keeps memory of activations for its next run. Of many sessions that
            run one after the other each would keep as much as all of them need at a time.
        stream: handle of the CUDA stream on which the caller orders its runs with other work, and
            which it may capture: the session then makes no graph of its own.

    Raises:
        ModelError: damaged, invalid or unsupported model.
        EnvironmentMismatchError: the provider is absent, or the memory does not suffice.
        UsageError: unknown provider or a setting ONNX Runtime does not take.
    """
    where = "model in memory" if isinstance(source, bytes) else str(source)
    provider = _provider(settings.provider)
    options = session_options(settings)
    options.enable_cpu_mem_arena = has_arena
    if isinstance(source, Path) and not source.is_file():
        raise ModelError("no such file", where=where)
    try:
        session = onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=_providers(provider, settings, has_arena, stream),
        )
    except ORT_ERRORS as error:
        raise load_error(error, where) from None
    session.disable_fallback()
    if session.get_providers()[0] != provider:
        raise EnvironmentMismatchError(
            f"ONNX Runtime could not start its {settings.provider} provider on this machine",
            where=where,
            fix="`infopt doctor` says what is missing; or plan with --target cpu",
        )
    return session


def _providers(
    provider: str, settings: SessionSettings, has_arena: bool, stream: int | None
) -> list[Any]:
    """The provider with its options, and the CPU for what it has no kernels for."""
    if provider == _PROVIDERS["cuda"]:
        graph = {"enable_cuda_graph": "1"} if settings.cuda_graph else {}
        if stream is not None:
            graph = {"user_compute_stream": str(stream)}
        grows = {} if has_arena else {"arena_extend_strategy": "kSameAsRequested"}
        return [(provider, {**graph, **grows}), _PROVIDERS["cpu"]]
    return list(dict.fromkeys((provider, _PROVIDERS["cpu"])))


def _provider(name: str) -> str:
    if name not in _PROVIDERS:
        raise UsageError(f"unknown provider {name!r}", fix=f"one of {', '.join(_PROVIDERS)}")
    provider = _PROVIDERS[name]
    if provider not in onnxruntime.get_available_providers():
        raise EnvironmentMismatchError(
            f"this build of ONNX Runtime has no {name} provider",
            fix="pip install onnxruntime-gpu, or plan with --target cpu",
        )
    return provider


def tensor_specs(session: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of a session; symbolic and unknown dimensions become None."""
    return (
        tuple(_spec(argument) for argument in session.get_inputs()),
        tuple(_spec(argument) for argument in session.get_outputs()),
    )


def _spec(argument: Any) -> TensorSpec:
    shape = argument.shape or ()
    dims = tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in shape)
    return TensorSpec(name=argument.name, dtype=dtypes.dtype_name(argument.type), shape=dims)


def _direct(session: Any, names: list[str]) -> BoundRun:
    """What `InferenceSession.run` calls once it has checked the names of the inputs and that no
    value belongs to another process: 1 to 5 microseconds less a call (8 to 20 % of a model of a
    few small operators, interleaved on two cores of an Intel Xeon at 2.5 GHz). Engines check their
    inputs themselves, and ONNX Runtime still refuses a missing one.
    """
    inner = getattr(session, "_sess", None)
    run = getattr(inner, "run", None)
    if run is None or not names:
        return partial(session.run, names)
    return lambda feeds: run(names, feeds, None)


def bind(session: Any, outputs: Sequence[str], *, is_direct: bool = True) -> BoundRun:
    """A callable `feeds -> values in the order of outputs`, chosen once for the types involved.

    ONNX Runtime's `run` takes NumPy's own types only; bfloat16 and float8 go through OrtValues.

    Args:
        is_direct: without the checks of `InferenceSession.run`; False: as its documentation
            calls it, which is what plain ONNX Runtime costs.

    Raises:
        ModelError: strings go in while an extended type comes out, which no call supports.
    """
    inputs, made = tensor_specs(session)
    names = list(outputs)
    taken = {spec.name: spec.dtype for spec in inputs}
    given = {spec.name: spec.dtype for spec in made}
    run = _direct(session, names) if is_direct else partial(session.run, names)
    if session.get_providers()[0] == "CUDAExecutionProvider":
        wanted = [next(spec for spec in made if spec.name == name) for name in names]
        if can_bind((*inputs, *wanted)) and not wants_host(session):
            return DeviceRun(session, inputs, wanted)
    if not any(dtypes.is_extended(kind) for kind in (*taken.values(), *given.values())):
        return run
    if not any(dtypes.is_extended(given[name]) for name in names):
        return lambda feeds: run(_to_ort(feeds, taken))
    strings = [name for name, kind in taken.items() if kind == dtypes.STRING]
    if strings:
        raise ModelError(
            f"ONNX Runtime's Python interface cannot take the strings of {strings[0]!r} and return "
            "bfloat16 or float8 in one call",
            fix="add a Cast to float32 behind the outputs",
        )
    run_values = session.run_with_ort_values
    return lambda feeds: [
        _from_ort(value, given[name])
        for name, value in zip(names, run_values(names, _all_to_ort(feeds, taken)), strict=True)
    ]


def _to_ort(feeds: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Extended types wrapped, everything else as it is."""
    return {
        name: _extended_to_ort(value, kinds[name]) if dtypes.is_extended(kinds[name]) else value
        for name, value in feeds.items()
    }


def _all_to_ort(feeds: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    wrap = onnxruntime.OrtValue.ortvalue_from_numpy
    return {
        name: wrap(value) if isinstance(value, np.ndarray) else value
        for name, value in _to_ort(feeds, kinds).items()
    }


def _extended_to_ort(value: np.ndarray[Any, Any], kind: str) -> Any:
    bits = dtypes.as_bits(value)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, dtypes.ONNX_NUMBER[kind])


def _from_ort(value: Any, kind: str) -> Any:
    if not dtypes.is_extended(kind):
        return value.numpy()
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, dtypes.numpy_dtype(kind)).reshape(value.shape()).copy()


def bind_all(session: Any, *, is_direct: bool = True) -> tuple[tuple[str, ...], BoundRun]:
    """(names, callable) of every output that can be handed out together, called as `bind` says.

    Packed 4-bit types never can; sequences and maps only where no extended type is among them.
    """
    made = tensor_specs(session)[1]
    has_extended = any(dtypes.is_extended(spec.dtype) for spec in made)
    names = tuple(
        spec.name
        for spec in made
        if dtypes.is_tensor(spec.dtype) or ("(" in spec.dtype and not has_extended)
    )
    return names, bind(session, names, is_direct=is_direct)


def feed_dict(feeds: Mapping[str, Any]) -> dict[str, Any]:
    """ONNX Runtime takes real dicts only."""
    return feeds if type(feeds) is dict else dict(feeds)
