"""Activations of plans for devices elsewhere: kept, or made again where memory is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from benchmarks.zoo_families.builder import Builder, save
from planner import pipeline
from planner.report.explain import explain
from planner.report.placement import summary
from planner.spec.constraints import Constraints
from planner.spec.plan import Plan
from planner.steps.conflict import ConflictError
from planner.steps.realisable import obstacles
from tests.place.models import memory

DEVICE = "a100-sxm-80gb"
ROWS, WIDTH, WIDE = 65536, 256, 2048
SKIP_MIB = ROWS * WIDTH * 2 / 2**20
"""The skip connection in 16 bits: 32 MiB."""


def model(folder: Path, way: str) -> Path:
    """x -> skip -> narrow, wide, wide, narrow -> plus skip: the middle needs most memory.

    Args:
        way: how the skip connection is made: by a `relu`, or by a `product` with a small weight.
    """
    b = Builder("skips", "float32")
    x = b.input("x", [ROWS, WIDTH])
    made = b.linear(x, WIDTH, WIDTH, "first") if way == "product" else x
    skip = b.node("Relu", made)
    hidden = b.linear(skip, WIDTH, WIDE, "up")
    hidden = b.linear(b.node("Relu", hidden), WIDE, WIDE, "middle")
    hidden = b.linear(b.node("Relu", hidden), WIDE, WIDTH, "down")
    narrow = b.node("Relu", b.linear(hidden, WIDTH, WIDTH, "last"))
    b.output(b.node("Add", narrow, skip), "y", [ROWS, WIDTH])
    path = folder / "skips.onnx"
    save(b.build(), path)
    return path


IMAGE = (1, 64, 512, 512)
"""As many elements as the skip connection has."""


def convolved(folder: Path) -> Path:
    """The same of convolutions: the skip is made of the picture by one of 3 x 3."""
    b = Builder("convolved", "float32")
    x = b.input("x", IMAGE)

    def conv(source: str, inner: int, outer: int, size: int) -> str:
        weight = b.weight("weight", outer, inner, size, size)
        made = b.node("Conv", source, weight, kernel_shape=[size] * 2, pads=[size // 2] * 4)
        return b.node("Relu", made)

    skip = conv(x, 64, 64, 3)
    hidden = conv(conv(conv(conv(skip, 64, 512, 1), 512, 512, 1), 512, 64, 1), 64, 64, 3)
    b.output(b.node("Add", hidden, skip), "y", IMAGE)
    path = folder / "convolved.onnx"
    save(b.build(), path)
    return path


def planned(
    path: Path, free_mib: float, gpus: str = "1", shape: tuple[int, ...] = (ROWS, WIDTH)
) -> Plan:
    given: dict[str, Any] = {
        "model": path, "no_weights": True, "compression": {"formats": ["fp16"]},
        "workload": [{"shapes": {"x": shape}}],
        "target": {
            "device": DEVICE, "gpus": gpus, "memory": memory(DEVICE, free_mib), "offload": [],
        },
    }  # fmt: skip
    return pipeline.plan(Constraints.model_validate(given)).plan


def enough_mib(path: Path, shape: tuple[int, ...] = (ROWS, WIDTH)) -> float:
    """What a refusal says is enough with everything kept, beside the runtime's."""
    with pytest.raises(ConflictError) as found:
        planned(path, 300, shape=shape)
    (limit,) = (each for each in found.value.report.limits if each.key == "target.memory")
    assert limit.nearest is not None
    assert limit.value < limit.nearest
    return limit.nearest / 2**20 - float(memory(DEVICE, 0).removesuffix("MiB"))


@pytest.mark.parametrize("way", ["relu", "product"])
def test_what_does_not_fit_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Without the skip connection in the middle 32 MiB less are enough; where it fits it stays."""
    path = model(tmp_path, way)
    kept = enough_mib(path)
    monkeypatch.setattr("planner.place.late.MOST", 0)
    with pytest.raises(ConflictError):
        planned(path, kept - 4)
    monkeypatch.undo()
    with pytest.raises(ConflictError):
        planned(path, kept - SKIP_MIB - 4)
    short = planned(path, kept - SKIP_MIB + 4)
    assert short.placement is not None
    (again,) = short.placement.recomputed
    assert again.size_bytes == ROWS * WIDTH * 2
    assert len(again.ops) == {"relu": 1, "product": 3}[way]
    if way == "relu":  # the kernel that adds it makes it on the way
        return
    assert again.latency_us["default"] > 0
    ample = planned(path, kept + 4)
    assert ample.placement is not None
    assert not ample.placement.recomputed
    times = [plan.prediction.latency_p50_us["default"].expected for plan in (ample, short)]
    assert times[1] - times[0] == pytest.approx(again.latency_us["default"], rel=0.05)
    text = shown(short)
    assert "32 MiB of activations" in text
    assert "made again" in text
    assert "made again" not in shown(ample)
    assert "32 MiB of activations" in printed(explain(short))
    assert any("made again" in each for each in obstacles(short))


def shown(plan: Plan) -> str:
    """The page that a person sees."""
    assert plan.placement is not None
    return printed(summary(plan, plan.placement))


def printed(page: RenderableType) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


@pytest.mark.parametrize("gpus", ["1..2"])
def test_ranks_make_theirs_again(tmp_path: Path, gpus: str) -> None:
    """On two devices nothing is worse than with everything kept, and nothing named that is no
    operator of the model."""
    path = model(tmp_path, "product")
    plan = planned(path, 700, gpus)
    assert plan.placement is not None
    names = {name for stage in plan.execution for name in (*stage.ops, *stage.cuts)}
    assert not any("@again" in name for name in names)


def test_a_convolution_is_run_again(tmp_path: Path) -> None:
    """With its weights stored once more, beside what reads the skip connection late."""
    path = convolved(tmp_path)
    kept = enough_mib(path, IMAGE)
    short = planned(path, kept - SKIP_MIB + 4, shape=IMAGE)
    assert short.placement is not None
    (again,) = short.placement.recomputed
    assert len(again.ops) == 2
    assert again.latency_us["default"] > 0
    ample = planned(path, kept + 4, shape=IMAGE)
    assert ample.placement is not None
    assert not ample.placement.recomputed
    weights = [each.placement.stages[0].memory.weights for each in (short, ample) if each.placement]
    assert weights[0] - weights[1] == 64 * 64 * 9 * 2
