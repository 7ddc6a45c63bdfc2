"""Compiled kernels: resources read from the cubin, waits where they belong, engines on disk."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from planner.errors import InfoptError, VerificationError
from planner.fuse.build import build, draft
from planner.graph.semantics import program_of
from planner.kernels.compile import Compiled, compile_kernel
from planner.kernels.cubin import read_resources
from planner.kernels.stage import Config
from planner.runtime.fused import manifest as manifests
from tests.kernels.run import needs_triton
from tests.ops import models

pytestmark = needs_triton


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    plan = draft(program_of(models.attention()), "float16")
    return compile_kernel(plan.kernels[0], 90)


def test_weights_are_read_before_the_wait_and_activations_after() -> None:
    plan = draft(program_of(models.block()), "float16")
    text = plan.kernels[0].text
    before, after = text.split("gdc_wait()")
    assert ".cg" not in before.split("gdc_wait")[-1]
    assert before.count("tl.load(") >= 3
    assert all(".cg" in line for line in after.splitlines() if "tl.load(" in line)


def test_dependent_launch_is_compiled_in_where_the_device_has_it(compiled: Compiled) -> None:
    assert compiled.waits
    older = compile_kernel(draft(program_of(models.attention()), "float16").kernels[0], 80)
    assert not older.waits


def test_a_gate_takes_a_reciprocal_and_no_general_quotient() -> None:
    """In a third of the instructions of the same written out."""
    node = helper.make_node
    written = [
        *(node("Neg", ["x"], ["n"]), node("Exp", ["n"], ["e"]), node("Add", ["e", "one"], ["d"])),
        node("Div", ["one", "d"], ["y"]),
    ]
    sizes = []
    for nodes in ([node("Sigmoid", ["x"], ["y"])], written):
        shape, one = (64, 512), {"one": np.ones(1, np.float32)}
        program = program_of(models.model(nodes, {"x": shape}, {"y": shape}, one))
        plan = draft(program, "float16", chosen={"y": Config(4096, 1, 1, warps=4)})
        sizes.append(compile_kernel(plan.kernels[0], 90).resources.code_size_bytes)
    assert sizes[0] < 0.7 * sizes[1]


def test_nothing_spills(compiled: Compiled) -> None:
    assert 0 < compiled.resources.registers <= 255
    assert compiled.resources.stack_size_bytes == 0


def test_resources_are_what_the_vendors_tool_says(compiled: Compiled, tmp_path: Path) -> None:
    found = importlib.util.find_spec("triton")
    assert found is not None
    tool = Path(str(found.origin)).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("Triton came without cuobjdump")
    path = tmp_path / "kernel.cubin"
    path.write_bytes(compiled.cubin)
    done = subprocess.run(
        [tool, "--dump-resource-usage", path], capture_output=True, text=True, check=True
    )
    assert f"REG:{compiled.resources.registers} " in done.stdout
    assert f"STACK:{compiled.resources.stack_size_bytes} " in done.stdout


def test_what_is_no_cubin_is_refused(compiled: Compiled) -> None:
    with pytest.raises(InfoptError, match="no ELF header"):
        read_resources(b"text", "kernel")
    with pytest.raises(InfoptError, match="no kernel 'other'"):
        read_resources(compiled.cubin, "other")


def test_an_engine_is_written_once_the_same_and_checked(tmp_path: Path) -> None:
    plan = draft(program_of(models.block()), "float16")
    first = build(plan, tmp_path / "a", [90])
    second = build(plan, tmp_path / "b", [90])
    assert first == second == manifests.read(tmp_path / "a")
    manifests.check_files(tmp_path / "a", first)
    assert {slot.name for slot in first.buckets[0].inputs} == {"x"}
    weights = tmp_path / "a" / manifests.WEIGHTS
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    with pytest.raises(VerificationError, match="not those that were built"):
        manifests.check_files(tmp_path / "a", first)
    (tmp_path / "b" / first.binaries[0].file).unlink()
    with pytest.raises(VerificationError, match="cannot be read"):
        manifests.check_files(tmp_path / "b", first)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(VerificationError, match="no such file"):
        manifests.read(tmp_path / "b")
    path = tmp_path / "a" / manifests.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(VerificationError, match="version 99"):
        manifests.read(tmp_path / "a")
