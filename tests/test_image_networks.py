"""Networks over images as tables name them: their operations and weights are the published ones."""

from __future__ import annotations

import pytest

from benchmarks.tables.graphs import Pass
from benchmarks.tables.networks import network_of
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.wholes import whole_of
from planner.cost.work import Convolution, Product

PUBLISHED = {
    "AlexNet": (0.71, 61.1),
    "vgg11": (7.61, 132.9),
    "vgg16_bn": (15.5, 138.4),
    "VGG-19": (19.6, 143.7),
    "mobilenet_v1": (0.57, 4.2),
    "MobileNetV2": (0.30, 3.5),
    "efficientnet-b0": (0.39, 5.3),
    "EfficientNet-B4": (4.2, 19.3),
    "efficientnet_b7": (37.0, 66.3),
    "densenet121": (2.83, 8.0),
    "densenet161": (7.73, 28.7),
    "DenseNet-201": (4.29, 20.0),
    "convnext_tiny": (4.46, 28.6),
    "convnext_base": (15.4, 88.6),
    "convnext_large": (34.4, 197.8),
    "resnet18": (1.81, 11.7),
    "ResNet-50 v1.5": (4.09, 25.6),
    "resnet152": (11.5, 60.2),
    "resnext50_32x4d": (4.23, 25.0),
    "resnext101_32x8d": (16.4, 88.8),
    "ResNeXt101-64x4d": (15.5, 83.5),
    "wide_resnet50_2": (11.4, 68.9),
    "wide_resnet101_2": (22.8, 126.9),
    "SE-ResNeXt101-32x4d": (8.0, 49.0),
}
"""10^9 multiply-adds of one image of the network's own size and 10^6 weights, as its authors or
torchvision's documentation print them."""


def row(model: str, **others: str) -> Row:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"gpu": "V100", "precision": "fp32", "metric": "latency_ms", "value": "9"}
    return Row(**(cells | {"model": model} | others))


def passed(model: str, **others: str) -> Pass:
    ((found, count),) = whole_of(row(model, **others)).passes
    assert count == 1.0
    return found


@pytest.mark.parametrize(("model", "published"), PUBLISHED.items())
def test_operations_and_weights_are_the_published_ones(
    model: str, published: tuple[float, float]
) -> None:
    works = {w: n for w, n in passed(model).works.items() if isinstance(w, Convolution | Product)}
    operations = sum(work.flops * count for work, count in works.items()) / 2e9
    weights = sum(work.weight_size_bytes * count for work, count in works.items()) / 4e6
    assert operations == pytest.approx(published[0], rel=0.06 if model != "AlexNet" else 0.12)
    assert weights == pytest.approx(published[1], rel=0.03)


@pytest.mark.parametrize("model", ["vgg16", "mobilenet_v2", "efficientnet-b0", "densenet121"])
def test_larger_batches_and_images_are_more_work(model: str) -> None:
    def flops(found: Pass) -> float:
        return sum(w.flops * n for w, n in found.works.items() if isinstance(w, Convolution))

    one = flops(passed(model))
    assert flops(passed(model, batch="8")) == pytest.approx(8 * one)
    assert flops(passed(model, params="448x448")) == pytest.approx(4 * one, rel=0.01)


def test_frameworks_run_what_engines_join() -> None:
    fused = passed("mobilenet_v2", notes="TensorRT 8.6")
    eager = passed("mobilenet_v2", notes="PyTorch eager")
    assert eager.operators > 2 * fused.operators
    assert sum(fused.works.values()) < sum(eager.works.values())


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ssd-mobilenet-v1",
            "mobilenet_v3_large",
            "mobilenet-edgetpu",
            "efficientnet-lite0",
            "faster-rcnn-vgg16",
        ),
        *("vgg99", "efficientnetv2-s", "densenet100", "mobilenet_v2_0.5", "yolov3"),
    ],
)
def test_relatives_are_not_taken_for_them(name: str) -> None:
    assert network_of(name) is None


UNETS = {"stable-diffusion-v1-5": 859.5, "Stable Diffusion 2.1": 865.9, "SDXL 1.0": 2567.0}
"""10^6 weights of the U-Net, as its authors print them."""


@pytest.mark.parametrize(("name", "weights"), UNETS.items())
def test_unets_have_the_published_weights(name: str, weights: float) -> None:
    works = passed(f"{name} UNet").works
    held = (
        work.weight_size_bytes * count
        for work, count in works.items()
        if isinstance(work, Convolution) or (isinstance(work, Product) and work.batch == 1)
    )
    assert sum(held) / 4e6 == pytest.approx(weights, rel=0.005)


def test_a_picture_is_its_steps_and_one_decoder() -> None:
    (step, steps), (last, once) = whole_of(row("SDXL", params="1024x1024 steps=30")).passes
    assert (steps, once) == (30, 1)
    assert step == passed("SDXL UNet", batch="2")
    (per_step,) = whole_of(row("SDXL", metric="it/s", params="1024x1024")).passes
    assert per_step == (step, 1.0)
    held = (w.weight_size_bytes * n for w, n in last.works.items() if isinstance(w, Convolution))
    assert sum(held) / 4e6 == pytest.approx(48.3, rel=0.02)
    with pytest.raises(UnpredictableError, match="no number of steps"):
        whole_of(row("SDXL"))
