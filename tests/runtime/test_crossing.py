"""The copying kernel assembles for every device, and blocks are where the arena put them."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from planner.runtime.fused.crossing import _COPY, Block
from planner.runtime.fused.manifest import Slot
from tests.kernels.run import needs_triton


@needs_triton
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_copying_kernel_assembles(tmp_path: Path, architecture: str) -> None:
    spec = importlib.util.find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    assembler = next(Path(spec.origin).parent.rglob("bin/ptxas"))
    source = tmp_path / "copy.ptx"
    source.write_bytes(_COPY.rstrip(b"\0"))
    cubin = tmp_path / "copy.cubin"
    command = map(str, (assembler, f"-arch={architecture}", "-v", source, "-o", cubin))
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 bytes spill stores" in done.stderr
    assert _COPY.endswith(b"\0")


def test_slots_lie_in_staging_as_in_the_arena() -> None:
    slots = (Slot("a", "float32", (3,), 512, 12), Slot("b", "float32", (80,), 768, 320))
    block = Block.of(slots)
    assert (block.start, block.size_bytes) == (512, 768)
    assert [block.place(slot) for slot in slots] == [0, 256]
    assert Block.of(()).size_bytes == 0
