"""Networks over images as tables name them: their operations and weights are the published ones."""

from __future__ import annotations

import pytest

from benchmarks.tables.canvas import Canvas
from benchmarks.tables.networks import network_of
from benchmarks.tables.passes import Pass
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import residual_of
from benchmarks.tables.wholes import whole_of
from planner.cost.work import Convolution, Flow, Product, Traffic

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
    "GoogLeNet": (1.55, 6.8),
    "inception_v3": (5.71, 23.8),
    "Inception-v4": (12.3, 42.7),
    "xception": (8.4, 22.9),
    "squeezenet1_0": (0.82, 1.25),
    "SqueezeNet 1.1": (0.35, 1.24),
    "shufflenet_v2_x0_5": (0.041, 1.37),
    "ShuffleNetV2": (0.146, 2.28),
    "shufflenet_v2_x1.5": (0.299, 3.5),
    "shufflenet_v2_x2_0": (0.591, 7.4),
    "mnasnet1_0": (0.314, 4.38),
    "mobilenet_v1_0.5_224": (0.149, 1.33),
    "mobilenet_v2_1.4": (0.582, 6.06),
    "mobilenetv2_050": (0.097, 1.97),
    "mobilenet_v3_large": (0.219, 5.48),
    "MobileNetV3-Small": (0.056, 2.54),
    "efficientnet-lite0": (0.407, 4.7),
    "efficientnet_lite4": (2.64, 13.0),
    "efficientnetv2-s": (8.37, 21.5),
    "efficientnet_v2_m": (24.58, 54.1),
    "EfficientNetV2-L": (56.1, 118.5),
    "regnet_x_400mf": (0.4, 5.2),
    "regnetx_064": (6.5, 26.2),
    "RegNetX-32GF": (31.7, 107.8),
    "RegNetY-800MF": (0.8, 6.3),
    "regnet_y_3_2gf": (3.2, 19.4),
    "regnety_160": (15.9, 83.6),
    "yolov3": (32.93, 61.9),
    "YOLOv5n": (2.25, 1.9),
    "ultralytics/yolov5s": (8.25, 7.2),
    "yolov5m 640": (24.5, 21.2),
    "yolov5l": (54.55, 46.5),
    "yolov5x.pt": (102.85, 86.7),
    "yolov8n": (4.35, 3.2),
    "YOLOv8s.onnx": (14.3, 11.2),
    "yolo_v8_m": (39.45, 25.9),
    "yolov8l": (82.6, 43.7),
    "yolov8x": (128.9, 68.2),
    "yolo11n": (3.25, 2.6),
    "YOLOv11s": (10.75, 9.4),
    "yolo11m": (34.0, 20.1),
    "yolo11l": (43.45, 25.3),
    "yolo11x": (97.45, 56.9),
}
"""10^9 multiply-adds of one image of the network's own size and 10^6 weights, as its authors or
the documentation of torchvision, Keras or Ultralytics (which counts two operations each) print
them."""


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


def test_ways_side_by_side_are_copied_together_by_frameworks_alone() -> None:
    fused, eager = (passed("inception_v3", notes=n) for n in ("TensorRT 8.6", "PyTorch eager"))
    copies = [
        sum(n for w, n in each.works.items() if isinstance(w, Traffic) and w.flow is Flow.COPY)
        for each in (fused, eager)
    ]
    assert copies == [0, 15]  # eleven blocks, two of them with two forks each


def test_windows_that_are_not_padded_shrink_their_image() -> None:
    canvas = Canvas(1, 299, 3, "fp32", is_fused=True)
    canvas.convolve(32, 3, 2, padded=False)
    assert canvas.side == 149
    canvas.convolve(32, (1, 7))
    assert canvas.side == 149
    canvas.pool(window=3)
    assert canvas.side == 74


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ssd-mobilenet-v1",
            "mobilenet_v3_large_minimal",
            "mobilenet-edgetpu",
            "efficientnet-lite7",
            "faster-rcnn-vgg16",
        ),
        *("vgg99", "efficientnetv2-xl", "densenet100", "mobilenet_v4"),
        *("yolov3-tiny", "yolov3u", "yolov5s6", "yolov8n-seg", "yolo11s-cls", "yolov7", "yolov10n"),
        *("mobilenetv2_110d", "semnasnet_100", "mnasnet_small", "mnasnet_a1", "convnextv2_tiny"),
        *("inception_resnet_v2", "inception_v2", "xception71", "shufflenet_v1", "regnet_y_5gf"),
    ],
)
def test_relatives_are_not_taken_for_them(name: str) -> None:
    assert network_of(name) is None


@pytest.mark.parametrize(
    "name", ["iresnet50", "tresnet50", "resnet50d", "ResNet-101s", "ssd-resnet50"]
)
def test_networks_beside_a_resnet_are_none(name: str) -> None:
    assert residual_of(row(name)) is None


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
