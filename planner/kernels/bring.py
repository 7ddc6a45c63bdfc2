"""Weights of the next launch, asked for while this one runs: they come from memory into L2.

A program whose weights do not stay in L2 from one call to the next waits for memory in every
product. Each block of a launch asks for its share of what the launch behind it will multiply by,
before it does anything else; nothing waits for the answer. BERT-base at 128 tokens on an H200: 320
us a call where its kernels alone, their weights in L2, take 285.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.kernels.patterns import power_of_two
from planner.kernels.source import Kernel, Parameter
from planner.kernels.text import ITEM_SIZE_BYTES

LINE_BYTES = 128
"""What one request brings."""
_HELPER = """

@triton.jit
def bring(pid, pointer, LINES: tl.constexpr, EACH: tl.constexpr):
    if pid * EACH < LINES:
        line = tl.minimum(pid * EACH + tl.arange(0, EACH), LINES - 1)
        address = pointer.to(tl.int64, bitcast=True) + line.to(tl.int64) * 128
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.b32 $0, 0;", "=r,l", [address], dtype=tl.int32,
            is_pure=False, pack=1
        )
"""
_START = "    pid = tl.program_id(0)\n"


def bringing(item: Kernel, weights: Sequence[tuple[str, str, int]]) -> Kernel:
    """The kernel that asks for these as well, by another name.

    Args:
        weights: tensor, element type, elements.
    """
    if not weights:
        return item
    names, calls, told = [], [], []
    for position, (_, kind, size) in enumerate(weights):
        lines = -(-size * ITEM_SIZE_BYTES[kind] // LINE_BYTES)
        each = power_of_two(-(-lines // item.programs))
        names.append(f"q{len(item.types) + position}")
        calls.append(f"        bring(pid, {names[-1]}, {lines}, {each})\n")
        told.append(f"{lines}")
    name = f"{item.name}_b{'_'.join(told)}"
    entry = f"@triton.jit\ndef {item.name}("
    before, after = item.text.split(entry)
    after = after.replace("AHEAD: tl.constexpr", f"{', '.join(names)}, AHEAD: tl.constexpr", 1)
    after = after.replace(_START, f"{_START}    if AHEAD:\n{''.join(calls)}", 1)
    return replace(
        item,
        name=name,
        text=f"{before.rstrip()}{_HELPER}\n\n@triton.jit\ndef {name}({after}",
        parameters=(*item.parameters, *(Parameter(tensor, 0) for tensor, _, _ in weights)),
        types=(*item.types, *(kind for _, kind, _ in weights)),
    )
