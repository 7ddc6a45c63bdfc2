"""Runs at fixed addresses, on the CPU's memory as a stand-in: the calls are the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from planner.runtime.device_run import DeviceRun, can_bind, wants_host
from planner.runtime.ort import make_session, tensor_specs
from tests.runtime import build


def test_answers_are_those_of_a_plain_run_whoever_calls(tmp_path: Path) -> None:
    model = build.affine("x", "y", seed=1)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 3
    session = make_session(build.save(model, tmp_path), build.SETTINGS)
    inputs, outputs = tensor_specs(session)
    assert can_bind((*inputs, *outputs))
    run = DeviceRun(session, inputs, outputs, device="cpu")
    given = [build.rows(3, seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda rows: run({"x": rows})[0], given))
    for rows, answer in zip(given, answers, strict=True):
        np.testing.assert_array_equal(answer, session.run(["y"], {"x": rows})[0])


def test_what_has_no_fixed_address_is_told_apart() -> None:
    assert can_bind([build.spec("x", "float16", (2, 3))])
    assert not can_bind([build.spec("x", "float32", (None, 3))])
    assert not can_bind([build.spec("x", "string", (2,))])
    assert not can_bind([build.spec("x", "bfloat16", (2,))])


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (["Cuda", "Cuda"], ["Cuda"], (False, False)),
        (["Cuda", "Cpu"], ["Cuda"], (True, True)),
        (["CudaPinned"], ["Cuda"], (True, True)),
        (["Cuda"], ["Cpu"], (False, True)),
    ],
)
def test_what_kernels_take_from_the_host_is_not_bound_to_the_device(
    inputs: list[str], outputs: list[str], expected: tuple[bool, bool]
) -> None:
    session = SimpleNamespace(
        get_input_memory_infos=lambda: [SimpleNamespace(name=name) for name in inputs],
        get_output_memory_infos=lambda: [SimpleNamespace(name=name) for name in outputs],
    )
    assert (wants_host(session), wants_host(session, outputs=True)) == expected
