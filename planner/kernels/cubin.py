"""What a compiled kernel uses, read from the cubin's own tables (an ELF file).

`.nv.info` holds attributes as (format, attribute, size, symbol, value), one a function. The numbers
are those that `cuobjdump --dump-resource-usage` prints.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from planner.errors import InfoptError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SIZED, _FRAME_SIZE, _MIN_STACK_SIZE, _REGISTERS = 0x04, 0x11, 0x12, 0x2F


@dataclass(frozen=True, slots=True)
class Resources:
    """What one thread or block of a kernel takes."""

    registers: int
    stack_size_bytes: int
    """Local memory a thread's frame takes: above zero means spills or indexed arrays."""
    code_size_bytes: int


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    data: bytes


def read_resources(cubin: bytes, entry: str) -> Resources:
    """Registers, stack and code size of a kernel.

    Raises:
        InfoptError: not a cubin, or the kernel is not in it.
    """
    sections = {section.name: section for section in _sections(cubin)}
    code = sections.get(f".text.{entry}")
    if code is None:
        raise InfoptError(f"no kernel {entry!r} in the cubin")
    info = sections[".nv.info"].data if ".nv.info" in sections else b""
    stack = max(_values(info, _FRAME_SIZE) + _values(info, _MIN_STACK_SIZE), default=0)
    return Resources(max(_values(info, _REGISTERS), default=0), stack, len(code.data))


def _sections(cubin: bytes) -> list[_Section]:
    if len(cubin) < _HEADER.size or cubin[:4] != b"\x7fELF":
        raise InfoptError("not a cubin: no ELF header")
    header = _HEADER.unpack_from(cubin)
    start, size, count, names_at = header[6], header[11], header[12], header[13]
    rows = [_SECTION.unpack_from(cubin, start + i * size) for i in range(count)]
    names = cubin[rows[names_at][4] : rows[names_at][4] + rows[names_at][5]]
    found = []
    for row in rows:
        name = names[row[0] : names.index(b"\0", row[0])].decode()
        data = b"" if row[1] == 8 else cubin[row[4] : row[4] + row[5]]
        found.append(_Section(name, data))
    return found


def _values(info: bytes, wanted: int) -> list[int]:
    """The values of one attribute for all functions."""
    found, at = [], 0
    while at + 4 <= len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _SIZED:
            continue
        if attribute == wanted and size >= 8:
            found.append(struct.unpack_from("<II", info, at)[1])
        at += size
    return found
