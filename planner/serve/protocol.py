"""An inference request, from bytes to arrays; nothing is allocated before it has been checked.

The body is a JSON document, followed (where the header `Inference-Header-Content-Length` gives the
document's length) by the raw values of those inputs that say `binary_data_size`, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core

from planner.runtime.dtypes import STRING, numpy_dtype
from planner.serve import datatypes
from planner.serve.datatypes import DATATYPES, Array
from planner.serve.faults import ClientFault, shown
from planner.spec.manifest import TensorSpec

HEADER = "Inference-Header-Content-Length"
_MAX_ELEMENTS_OF_NOTHING = 1 << 20
"""A tensor with a zero dimension carries no data, yet [10^12, 0] can make a model allocate."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output to be returned, and how."""

    name: str
    is_binary: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for, checked against the model's inputs and outputs."""

    feeds: dict[str, Array]
    wanted: tuple[Wanted, ...]
    id: str | None


@dataclass(slots=True)
class _Tail:
    """The binary part of a body and how much of it has been used."""

    data: memoryview
    used: int = 0

    def take(self, size: int, where: str) -> memoryview:
        """The next `size` bytes."""
        left = len(self.data) - self.used
        if size > left:
            raise ClientFault(f"{where} is {size}, but only {left} bytes of binary data are left")
        self.used += size
        return self.data[self.used - size : self.used]


def parse(
    body: bytes,
    header: str | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Request:
    """The request in a body; `header` is the value of `Inference-Header-Content-Length`.

    Raises:
        ClientFault: anything that is not as the protocol or the model wants it.
    """
    document, tail = _split(body, header)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise ClientFault("'id' must be a string")
    parameters = _parameters(document, "the request")
    tensors = _named(document.get("inputs"), "inputs", [spec.name for spec in inputs])
    missing = [spec.name for spec in inputs if spec.name not in tensors]
    if missing:
        raise ClientFault(f"'inputs' lacks {shown(missing[0])}; the model takes {_list(inputs)}")
    specs = {spec.name: spec for spec in inputs}
    feeds = {name: _array(tensor, specs[name], tail) for name, tensor in tensors.items()}
    if tail.used != len(tail.data):
        raise ClientFault(f"{len(tail.data) - tail.used} bytes of binary data belong to no input")
    return Request(feeds, _wanted(document, parameters, outputs), identity)


def _split(body: bytes, header: str | None) -> tuple[dict[str, Any], _Tail]:
    length = len(body) if header is None else _header_length(header, len(body))
    try:
        # NaN and Infinity pass here, so that the refusal can name the input they stand in.
        document = pydantic_core.from_json(body[:length], allow_inf_nan=True)
    except ValueError as error:
        raise ClientFault(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ClientFault("the body must be a JSON object with 'inputs'")
    return document, _Tail(memoryview(body)[length:])


def _header_length(header: str, available: int) -> int:
    is_number = header.isascii() and header.isdecimal() and len(header) <= 18
    if not is_number or not 0 < int(header) <= available:
        raise ClientFault(f"{HEADER}: {shown(header)} is not between 1 and {available}")
    return int(header)


def _parameters(owner: Mapping[str, Any], where: str) -> dict[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ClientFault(f"'parameters' of {where} must be an object")
    return parameters


def _flag(parameters: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise ClientFault(f"parameter {key!r} of {where} must be true or false")
    return value


def _named(items: Any, field: str, known: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The members of 'inputs' or 'outputs' by name, in their order."""
    if not isinstance(items, list):
        raise ClientFault(f"{field!r} must be a list of tensors")
    found: dict[str, dict[str, Any]] = {}
    for index, item in enumerate(items):
        where = f"{field}[{index}]"
        if not isinstance(item, dict):
            raise ClientFault(f"{where} must be an object with 'name'")
        name = item.get("name")
        if not isinstance(name, str) or name not in known:
            names = ", ".join(map(repr, known)) or "none"
            raise ClientFault(f"{where}: unknown name {shown(name)}; the model has {names}")
        if name in found:
            raise ClientFault(f"{where}: {shown(name)} is there twice")
        found[name] = item
    return found


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} {DATATYPES[spec.dtype]} {_dims(spec)}" for spec in specs)


def _dims(spec: TensorSpec) -> str:
    return f"[{','.join('-1' if dim is None else str(dim) for dim in spec.shape)}]"


def _array(tensor: Mapping[str, Any], spec: TensorSpec, tail: _Tail) -> Array:
    where = f"input {spec.name!r}"
    wanted = DATATYPES[spec.dtype]
    if tensor.get("datatype") != wanted:
        raise ClientFault(
            f"{where}: datatype must be {wanted}, not {shown(tensor.get('datatype'))}"
        )
    shape = _shape(tensor.get("shape"), spec, where)
    size = _parameters(tensor, where).get("binary_data_size")
    if size is None:
        if "data" not in tensor:
            raise ClientFault(f"{where}: needs 'data' or the parameter 'binary_data_size'")
        return datatypes.from_json(tensor["data"], spec.dtype, shape, f"{where}: 'data'")
    if "data" in tensor:
        raise ClientFault(f"{where}: has both 'data' and 'binary_data_size'")
    return _binary(size, spec, shape, tail)


def _binary(size: Any, spec: TensorSpec, shape: tuple[int, ...], tail: _Tail) -> Array:
    where = f"input {spec.name!r}: binary_data_size"
    if type(size) is not int or size < 0:
        raise ClientFault(f"{where} must be a number of bytes, not {shown(size)}")
    if spec.dtype != STRING:
        expected = math.prod(shape) * numpy_dtype(spec.dtype).itemsize
        if size != expected:
            raise ClientFault(f"{where} is {size}; shape {list(shape)} takes {expected} bytes")
    return datatypes.from_binary(tail.take(size, where), spec.dtype, shape, where)


def _shape(shape: Any, spec: TensorSpec, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise ClientFault(f"{where}: shape must be a list of sizes >= 0, not {shown(shape)}")
    fits = len(shape) == len(spec.shape) and all(
        wanted is None or wanted == dim for wanted, dim in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise ClientFault(f"{where}: shape {shown(shape)} does not fit {_dims(spec)}")
    if 0 in shape and math.prod(dim for dim in shape if dim) > _MAX_ELEMENTS_OF_NOTHING:
        raise ClientFault(f"{where}: shape {shown(shape)} is too large")
    return tuple(shape)


def _wanted(
    document: Mapping[str, Any], parameters: Mapping[str, Any], outputs: Sequence[TensorSpec]
) -> tuple[Wanted, ...]:
    all_binary = _flag(parameters, "binary_data_output", "the request", False)
    items = document.get("outputs")
    if items is None or items == []:
        return tuple(Wanted(spec.name, all_binary) for spec in outputs)
    named = _named(items, "outputs", [spec.name for spec in outputs])
    return tuple(
        Wanted(name, _flag(_parameters(item, where), "binary_data", where, all_binary))
        for name, item in named.items()
        for where in (f"output {name!r}",)
    )
