"""Where each value comes from: flag > environment (`INFOPT_*`) > YAML > default.

Every flag of `infopt plan` is one YAML key; `FLAGS` is the one table of which. Paths in a YAML file
are relative to that file; paths in flags and environment to the current directory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from planner.errors import SpecError, UsageError
from planner.spec.budget import is_function
from planner.spec.constraints import Constraints
from planner.spec.devices import is_file_name
from planner.spec.problems import KeyPath, explain, path_text
from planner.spec.quantities import FROM_TEXT
from planner.spec.shape_words import workload_of
from planner.spec.yaml_source import YamlSource

SHORT_FORMS: dict[KeyPath, str] = {("slo",): "latency", ("target",): "device"}
"""Sections that may be written as one word, and the key that word stands for."""

PATH_KEYS: tuple[KeyPath, ...] = (
    ("model",),
    ("accuracy", "calibration"),
    ("accuracy", "evaluation"),
    ("ci", "baseline"),
    ("output", "plan"),
    ("output", "html"),
    ("output", "junit"),
    ("output", "markdown"),
    ("output", "annotate"),
)


def _text(words: tuple[str, ...]) -> Any:
    return words[-1]


def _whole_number(words: tuple[str, ...]) -> Any:
    return int(words[-1]) if words[-1].isascii() and words[-1].isdigit() else words[-1]


def _switch(words: tuple[str, ...]) -> Any:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return known.get(words[-1].lower(), words[-1])


def _list(words: tuple[str, ...]) -> Any:
    return [part.strip() for word in words for part in word.split(",") if part.strip()]


def _pins(words: tuple[str, ...]) -> Any:
    pins: dict[str, str] = {}
    for word in words:
        pattern, equals, pinned = word.rpartition("=")
        if not equals or not pattern:
            raise UsageError(f"{word!r} is no pin", fix="write PATTERN=FORMAT: '*/head/*=fp16'")
        pins[pattern] = pinned
    return pins


@dataclass(frozen=True, slots=True)
class Flag:
    """A command line flag and the YAML key it sets."""

    name: str
    """As a parameter: `max_drop` for `--max-drop` and `INFOPT_MAX_DROP`."""
    key: KeyPath
    read: Callable[[tuple[str, ...]], Any] = _text
    is_repeated: bool = False
    """Whether the flag may be given several times (`;` separates them in the environment)."""

    @property
    def option(self) -> str:
        """As typed."""
        return "MODEL" if self.name == "model" else f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """As an environment variable."""
        return f"INFOPT_{self.name.upper()}"


FLAGS = (
    Flag("model", ("model",)),
    Flag("slo", ("slo", "latency")),
    Flag("throughput", ("slo", "throughput")),
    Flag("max_drop", ("accuracy", "max_drop")),
    Flag("max_error", ("accuracy", "max_error")),
    Flag("metric", ("accuracy", "metric")),
    Flag("confidence", ("accuracy", "confidence")),
    Flag("calibration", ("accuracy", "calibration")),
    Flag("evaluation", ("accuracy", "evaluation")),
    Flag("target", ("target", "device")),
    Flag("gpus", ("target", "gpus")),
    Flag("memory", ("target", "memory")),
    Flag("price", ("target", "price")),
    Flag("offload", ("target", "offload"), _list, is_repeated=True),
    Flag("shapes", ("workload",), workload_of, is_repeated=True),
    Flag("formats", ("compression", "formats"), _list, is_repeated=True),
    Flag("pin", ("compression", "pin"), _pins, is_repeated=True),
    Flag("objective", ("objective",)),
    Flag("time_limit", ("solver", "time_limit")),
    Flag("gap", ("solver", "gap")),
    Flag("seed", ("solver", "seed"), _whole_number),
    Flag("no_weights", ("no_weights",), _switch),
    Flag("baseline", ("ci", "baseline")),
    Flag("fail_on", ("ci", "fail_on"), _list, is_repeated=True),
    Flag("output", ("output", "plan")),
    Flag("html", ("output", "html")),
    Flag("junit", ("output", "junit")),
    Flag("markdown", ("output", "markdown")),
    Flag("annotate", ("output", "annotate")),
)
"""Every flag of `infopt plan` that decides anything, in the order of its help."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The constraints, and for each key (`slo.latency.p99`) where its value came from."""

    constraints: Constraints
    provenance: Mapping[str, str]


def resolve(
    flags: Mapping[str, tuple[str, ...]],
    environment: Mapping[str, str],
    source: YamlSource | None = None,
) -> Resolved:
    """Merges flags, environment and YAML into checked constraints.

    Args:
        flags: values by parameter name; only those the user gave.
        environment: usually `os.environ`.
        source: the constraints file, if any.

    Raises:
        SpecError: unknown keys, wrong types, missing units, contradictions; says where.
    """
    data: dict[str, Any] = _with_paths(source) if source else {}
    origins = {at: f"{source.path}:{line}" for at, line in source.lines.items()} if source else {}
    _expand_short_forms(data, origins)
    for flag in FLAGS:
        if flag.name in flags:
            _set(data, origins, flag, flags[flag.name], flag.option)
        elif environment.get(flag.variable):
            text = environment[flag.variable]
            words = tuple(text.split(";")) if flag.is_repeated else (text,)
            _set(data, origins, flag, words, flag.variable)
    constraints = _checked(data, origins, source)
    return Resolved(constraints, _provenance(constraints, origins))


def _with_paths(source: YamlSource) -> dict[str, Any]:
    """The document with its relative paths made relative to the current directory."""
    data = copy.deepcopy(source.data)
    for *parents, last in PATH_KEYS:
        section: Any = data
        for part in parents:
            section = section.get(part) if isinstance(section, dict) else None
        value = section.get(last) if isinstance(section, dict) else None
        if isinstance(value, str) and value and not is_function(value):
            section[last] = str(source.path.parent / value)
    _with_device_file(data, source.path.parent)
    return data


def _with_device_file(data: dict[str, Any], folder: Path) -> None:
    """The target, where it is a file and no name; both ways to write it."""
    target = data.get("target")
    section, key = (target, "device") if isinstance(target, dict) else (data, "target")
    name = section.get(key)
    if isinstance(name, str) and is_file_name(name):
        section[key] = str(folder / name)


def _set(
    data: dict[str, Any],
    origins: dict[KeyPath, str],
    flag: Flag,
    words: tuple[str, ...],
    origin: str,
) -> None:
    try:
        value = flag.read(words)
    except UsageError as error:
        raise SpecError(error.what, where=origin, fix=error.fix) from error
    section = data
    for depth, part in enumerate(flag.key[:-1], start=1):
        section = _section(section, str(part), SHORT_FORMS.get(flag.key[:depth]))
    for at in [at for at in origins if at[: len(flag.key)] == flag.key]:
        del origins[at]
    section[str(flag.key[-1])] = value
    origins[flag.key] = origin


def _section(data: dict[str, Any], key: str, short_form: str | None) -> dict[str, Any]:
    """The mapping under `key`, made where it is absent or written in its short form."""
    found = data.get(key)
    if isinstance(found, str) and short_form is not None:
        found = {short_form: found}
    data[key] = found if isinstance(found, dict) else {}
    return data[key]  # type: ignore[no-any-return]


def _expand_short_forms(data: Mapping[str, Any], origins: dict[KeyPath, str]) -> None:
    """A section written as one word vouches for the key that word stands for, and no other."""
    for at, key in SHORT_FORMS.items():
        is_short = isinstance(data.get(str(at[0])), str)
        if at in origins and is_short:
            origins[(*at, key)] = origins.pop(at)


def _checked(
    data: dict[str, Any], origins: Mapping[KeyPath, str], source: YamlSource | None
) -> Constraints:
    if data.get("model") is None:
        raise SpecError(
            "no model is given",
            where=str(source.path) if source else None,
            fix="infopt plan MODEL.onnx, or `model: MODEL.onnx` in the constraints file",
        )
    try:
        return Constraints.model_validate(data, context=FROM_TEXT, by_alias=True, by_name=False)
    except ValidationError as error:
        raise explain(error, Constraints, lambda at: _where(at, origins, source)) from error


def _where(at: KeyPath, origins: Mapping[KeyPath, str], source: YamlSource | None) -> str:
    origin = _origin(at, origins)
    if origin is None:
        return f"{source.path}: {path_text(at)}" if source else path_text(at)
    is_line = source is not None and origin.startswith(f"{source.path}:")
    return f"{origin}: {path_text(at)}" if is_line else origin


def _origin(at: KeyPath, origins: Mapping[KeyPath, str]) -> str | None:
    """Where the longest known beginning of a key path was written."""
    prefixes = (at[:length] for length in range(len(at), 0, -1))
    return next((origins[prefix] for prefix in prefixes if prefix in origins), None)


def _provenance(constraints: Constraints, origins: Mapping[KeyPath, str]) -> dict[str, str]:
    data = constraints.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {path_text(at): _leaf_origin(at, origins) for at in _leaves(data, ())}


def _leaf_origin(at: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """A section written key by key does not vouch for the keys in it that nobody wrote."""
    written = next((at[:size] for size in range(len(at), 0, -1) if at[:size] in origins), ())
    is_section = any(key != written and key[: len(written)] == written for key in origins)
    return origins[written] if written == at or (written and not is_section) else "default"


def _leaves(value: Any, at: KeyPath) -> list[KeyPath]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*at, key))]
    return [at]
