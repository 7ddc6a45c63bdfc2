"""Tables of the future: how rows of other sources, devices and models are read and priced."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.predict import memory_cells, predict
from benchmarks.tables import metrics
from benchmarks.tables.architectures import Transformer
from benchmarks.tables.collectives import collective_of, collective_us
from benchmarks.tables.graphs import transformer_pass
from benchmarks.tables.kernels import kernel_of, kernel_us
from benchmarks.tables.offload import host_us
from benchmarks.tables.passes import Setting
from benchmarks.tables.precision import format_of
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import image_tokens, transformer_of, windows_of
from benchmarks.tables.software import calls_kernels, joins_activations
from benchmarks.tables.study import sort
from benchmarks.tables.validation import model_name
from benchmarks.tables.weigh import is_out_of_memory, measured_gb, parts_of
from benchmarks.tables.wholes import whole_of
from planner.cost.curves import Library
from planner.cost.work import Attention, Convolution, Experts, Flow, Product, Traffic
from planner.errors import UsageError

COLUMNS = [name for name in Row.__dataclass_fields__ if name != "table"]
DECODER = {
    "source": "someone/somewhere",
    "model": "Llama-3.1-8B",
    "gpu": "NVIDIA L40S",
    "n_gpus": "1",
    "tp": "1",
    "pp": "1",
    "precision": "bf16",
    "batch": "4",
    "seq_in": "512",
    "seq_out": "64",
    "metric": "latency_ms",
    "value": "100",
}


def _row(**columns: str) -> Row:
    return Row(table="t", **{name: columns.get(name, "") for name in COLUMNS})


@pytest.mark.parametrize(
    ("metric", "scale"),
    [
        ("latency_ms", 1e3),
        ("op_latency_s", 1e6),
        ("op_latency_ms_median", 1e3),
        ("latency_us", 1.0),
        ("Latency-Average(ms)", 1e3),
        ("kernel_time_ns", 1e-3),
        ("TTFT_ms", 1e3),
        ("time_seconds", 1e6),
        ("throughput_img/s", None),
        ("generation_throughput_tok_per_s", None),
        ("decode_tokens_per_s", None),
        ("TFLOPS", None),
        ("busbw_GB/s", None),
        ("memory_GB", None),
    ],
)
def test_latencies_are_read_in_any_unit(metric: str, scale: float | None) -> None:
    assert metrics.latency_scale(metric) == scale


@pytest.mark.parametrize(
    "metric", ["throughput", "samples/s", "tokens_per_s", "TFLOPS", "algbw_GB/s", "images_per_sec"]
)
def test_rates_are_larger_where_faster(metric: str) -> None:
    assert metrics.is_rate(metric)
    assert not metrics.is_rate("latency_ms")


@pytest.mark.parametrize(
    ("metric", "gb"),
    [("memory_GB", 2.0), ("peak_mem_MB", 2e-3), ("memory_GiB", 2 * 1.073741824), ("memory", 2.0)],
)
def test_sizes_are_read_in_any_unit(metric: str, gb: float) -> None:
    assert measured_gb(_row(metric=metric, value="2")) == pytest.approx(gb)


def test_bandwidths_of_collectives_and_kernels_are_latencies() -> None:
    row = _row(
        model="all_gather_perf",
        params="size=64MiB",
        n_gpus="4",
        metric="busbw_GB/s",
        value="150",
    )
    found = collective_of(row)
    assert found is not None
    assert (found.kind, found.size_bytes, found.ranks) == ("all_gather", 2.0**26, 4)
    assert collective_us(row, found) == pytest.approx(0.75 * 2**26 / 150e3)
    copy = _row(model="copy M=1024 N=1024", precision="fp16", metric="GB/s", value="1000")
    work = kernel_of(copy)
    assert work == Traffic(2.0**21, 2.0**21, Flow.COPY)
    assert kernel_us(copy, work) == pytest.approx(2**22 / 1e6)
    with pytest.raises(UnpredictableError, match="one rank"):
        collective_of(_row(model="all_reduce", params="size_bytes=8", n_gpus="1"))


@pytest.mark.parametrize(
    ("precision", "sparsity", "name"),
    [
        ("fp8", "2:4", "2:4_int8"),
        ("float8wo", "", "int8_wo"),
        ("fp8_block", "none", "fp8"),
        ("w4a16 awq", "none", "int4_wo"),
    ],
)
def test_formats_of_newer_sources(precision: str, sparsity: str, name: str) -> None:
    assert format_of(precision, sparsity) == name
    with pytest.raises(UnpredictableError, match="not modelled"):
        format_of("w4a8_mxfp4", "none")


def test_kernels_that_work_by_rows() -> None:
    softmax = kernel_of(_row(model="softmax B=64 H=512", precision="fp32"))
    assert softmax == Traffic(131072.0, 131072.0, Flow.SOFTMAX, rows=64)
    add = kernel_of(_row(model="VECadd B=8 H=16", precision="fp16"))
    assert add == Traffic(512.0, 256.0, Flow.ELEMENTWISE)
    with pytest.raises(UnpredictableError, match="size of 'layer_norm'"):
        kernel_of(_row(model="layer_norm", precision="fp16"))


def test_attention_of_other_shapes() -> None:
    row = _row(
        model="generation_attention heads=32 kv_heads=8 head_dim=64 window_size=128",
        precision="bf16",
        batch="2",
        seq_in="4096",
    )
    assert kernel_of(row) == Attention(2, 32, 8, 64, 1, 128, format="bf16")
    with pytest.raises(UnpredictableError, match="sliding"):
        kernel_of(_row(model="context_attention heads=8 window_size=128", seq_in="4096", batch="1"))


def test_attention_over_latent_vectors() -> None:
    """Of one position to cached vectors; of a prompt as wide as keys and values on average."""
    at = {"seq_in": "4096", "batch": "2", "precision": "bf16"}
    step = kernel_of(_row(model="generation_mla heads=128", **at))
    assert step == Attention(2, 128, 1, 544, 1, 4096, format="bf16", cached=576)
    prompt = kernel_of(_row(model="context_mla heads=16 qk_rope_head_dim=32", **at))
    assert prompt == Attention(2, 16, 16, 144, 4096, 4096, format="bf16")


@pytest.mark.parametrize(
    ("model", "params"),
    [
        (
            "moe",
            "num_tokens=64 hidden_size=4096 inter_size=14336 topk=2 num_experts=8 moe_tp_size=2",
        ),
        ("fused_moe E=8 N=7168 K=4096 topk=2 M=64", ""),
    ],
)
def test_a_layer_of_experts_however_it_is_written(model: str, params: str) -> None:
    found = kernel_of(_row(model=model, params=params, precision="bf16"))
    assert found == Experts(64, 128, 4096, 7168, 8, format="bf16")


def test_experts_elsewhere_take_their_share_of_calls() -> None:
    sizes = "num_tokens=5 hidden_size=128 inter_size=64 topk=8 num_experts=256 moe_ep_size=16"
    found = kernel_of(_row(model="moe", params=sizes, precision="fp16"))
    assert found == Experts(5, 3, 128, 64, 16)
    for name in ("moe_align_block_size", "topk_softmax", "moe_dispatch"):
        assert kernel_of(_row(model=name, params=sizes, precision="fp16")) is None


def test_encoder_decoders_run_one_encoder_and_a_step_a_token() -> None:
    whole = whole_of(_row(**DECODER | {"model": "T5-3B", "precision": "fp16"}))
    (encoder, once), (step, steps) = whole.passes
    assert (once, steps) == (1, 64)
    products = [work for work in encoder.works if isinstance(work, Product)]
    assert {work.m for work in products} == {4 * 512}
    across = [w for w in step.works if isinstance(w, Attention)]
    assert sorted(work.keys for work in across) == [32, 512]


def test_experts_are_as_many_as_tokens_can_ask_for() -> None:
    one = whole_of(_row(**DECODER | {"model": "Mixtral-8x7B", "batch": "1"}))
    many = whole_of(_row(**DECODER | {"model": "Mixtral-8x7B", "batch": "64"}))

    steps = [whole.passes[1][0].works for whole in (one, many)]
    assert [{w.asked for w in works if isinstance(w, Experts)} for works in steps] == [{2}, {8}]
    assert Product(1, 8, 4096) in steps[0]  # what scores them


def test_parallel_rows_reduce_and_hop() -> None:
    row = _row(**DECODER | {"model": "GPT-3 175B", "n_gpus": "16", "tp": "8", "pp": "2"})
    first, step = (one for one, _ in whole_of(row).passes)
    assert first.reductions == {4 * 512 * 12288 * 2.0: 2 * 96}
    assert first.hops == {4 * 512 * 12288 * 2.0: 1}
    assert step.hops == {4 * 12288 * 2.0: 1}


def test_images_become_patches_and_windows() -> None:
    assert image_tokens(_row(model="ViT-B_16", params="384x384")) == 577
    assert image_tokens(_row(model="google/vit-large-patch16-224")) == 197
    assert image_tokens(_row(model="GPT-2")) is None
    swin = windows_of(_row(model="Swin-Tiny 384x384"))
    assert swin is not None
    assert (swin.resolution, swin.window) == (384, 12)
    whole = whole_of(_row(**DECODER | {"model": "Swin-B base", "seq_in": "", "seq_out": ""}))
    flops = sum(n * w.flops for w, n in whole.passes[0][0].works.items()) / 4
    assert flops == pytest.approx(2 * 15.4e9, rel=0.05)
    net = whole_of(_row(**DECODER | {"model": "ResNet-50", "precision": "fp16"}))
    works = net.passes[0][0].works
    flops = sum(n * w.flops for w, n in works.items() if isinstance(w, Convolution)) / 4
    assert flops == pytest.approx(2 * 4.09e9, rel=0.05)


def test_phases_and_units_of_serving_rows() -> None:
    first = whole_of(_row(**DECODER | {"metric": "ttft_ms"}))
    step = whole_of(_row(**DECODER | {"metric": "tpot_ms"}))
    assert [len(first.passes), len(step.passes)] == [1, 1]
    assert step.value(2500.0) == pytest.approx(2.5)
    rate = whole_of(_row(**DECODER | {"metric": "throughput_tokens/s/gpu", "tp": "2"}))
    assert rate.value(1e6) == pytest.approx(4 * 64 / 2)
    with pytest.raises(UnpredictableError, match="not predicted"):
        whole_of(_row(**DECODER | {"metric": "happiness"}))


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-2-70b-hf", 69),
        ("Llama-3.1-8B", 7.5),
        ("EleutherAI/gpt-j-6B", 6.1),
        ("GPT-3 175B", 175),
        ("gpt3-xl", 1.3),
        ("google/t5-11b", 11.3),
        ("facebook/opt-30b", 30),
        ("bert-large-uncased", 0.33),
        ("Mixtral-8x7B", 46.6),
        ("google/gemma-7b", 8.5),
        ("vit-huge", 0.63),
        ("GPT-2 1.5B", 1.56),
        ("gpt-oss-120b", 116),
        ("gpt-oss-20b", 20.4),
        ("Qwen3-30B-A3B", 30.2),
        ("qwen2.5-14b-instruct", 14.0),
        ("Qwen3-235B-A22B", 234),
        ("dbrx-base", 131),
        ("gemma-2-27b", 27.2),
        ("mistral-large-2407", 122.5),
        ("falcon-180B", 179),
        ("falcon-40b", 41.3),
        ("Yi-34B", 34),
        ("mpt-30b", 30),
        ("starcoder2-15b", 15.8),
        ("chatglm3-6b", 6.0),
        ("internlm2-20b", 19.3),
    ],
)
def test_public_models_have_their_published_size(name: str, billions: float) -> None:
    model = transformer_of(_row(model=name))
    assert model is not None
    assert model.parameters / 1e9 == pytest.approx(billions, rel=0.05)


def test_what_is_no_known_model_is_skipped_with_its_name() -> None:
    rows = [_row(**DECODER | {"model": name}) for name in ("deberta-v3", "Tacotron 2")]
    found = sort({"new": rows})
    assert found.wholes == []
    assert sorted(found.skipped["new"]) == [
        "model 'Tacotron 2' is unknown",
        "model 'deberta-v3' is unknown",
    ]


def test_memory_cells_of_all_kinds() -> None:
    assert is_out_of_memory(_row(value="OOM"))
    assert is_out_of_memory(_row(notes="CUDA out of memory"))
    assert not is_out_of_memory(_row(value="12", notes="boom"))
    weights, cache, _ = parts_of(_row(**DECODER))
    assert weights == pytest.approx(2 * 8.0, rel=0.1)
    assert cache == pytest.approx(4 * 576 * 32 * 8 * 128 * 2 * 2 / 1e9)
    shared = parts_of(_row(**DECODER | {"tp": "4", "n_gpus": "4"}))
    assert math.isclose(shared[0], weights / 4)


def test_kernels_name_the_model_that_they_are_from() -> None:
    assert model_name(_row(model="GEMM Qwen2.5-7B m=1 n=2 k=3")) == "qwen2.5-7b"
    assert model_name(_row(model="meta-llama/Llama-2-7b:mlp_act")) == "meta-llama/llama-2-7b"
    assert model_name(_row(model="GEMM m=1 n=2 k=3")) == ""


def test_what_is_neither_on_the_device_nor_in_host_memory_is_on_disk() -> None:
    notes = "FlexGen --percent 0 50 0 40 0 100; gpu-batch-size=8 x num-gpu-batches=2"
    row = _row(**DECODER | {"model": "OPT-175B", "gpu": "T4 16GB", "notes": notes, "batch": "16"})
    place = whole_of(row).placement
    assert place is not None
    assert (place.weights, place.disk_weights, place.cache) == (1.0, 0.5, 1.0)
    assert place.disk_cache == pytest.approx(0.6)
    model = transformer_of(row)
    assert model is not None
    shape = (16, 1, 512)
    near = replace(place, disk_weights=0.0, disk_cache=0.0)
    slow, fast = (host_us(each, model, shape, 1e4, 1e5) for each in (place, near))
    assert slow[0] > fast[0]


JUNK = ("", "0", "-1", "1e12", "n/a", "nan", "inf", "OOM", "NVIDIA L40S", "fp8", "2:4", "latency_s")
SHAPES = ("GEMM m=0 n=1 k=1", "bmm B=0 M=4 N=4 K=4", "softmax B=0 H=0", "all_reduce", "T5-3B")


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(COLUMNS), st.sampled_from((*JUNK, *SHAPES))))
def test_any_row_is_predicted_or_skipped(junk: dict[str, str]) -> None:
    rows = sort({"t": [_row(**DECODER | junk)]})
    for found in predict(rows, [], None):
        assert 0 < found.low <= found.expected <= found.high < math.inf
    assert memory_cells(rows, Library([])).get("right", 0.0) in (0.0, 1.0)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x1f\x8b not gzip"])
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.csv.gz").write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.csv\.gz is no table"):
        read_folder(tmp_path)


def test_a_byte_order_mark_hides_no_column(tmp_path: Path) -> None:
    text = "\ufeffmodel,value\nBERT-base,3\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_folder(tmp_path)["t"][0].model == "BERT-base"


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("context_attention heads=0 kv_heads=0", ""),
        ("generation_attention heads=8 kv_heads=16", ""),
        ("generation_attention heads=8 head_dim=0", ""),
        ("GEMM m=0 n=1 k=1", ""),
        ("softmax B=0 H=8", ""),
        ("all_reduce", "size_bytes=0"),
        ("net", "layers=2 hidden=64 heads=0"),
        ("net", "layers=0 hidden=64 heads=4"),
        ("net", "layers=2 hidden=64 heads=128"),
        ("net:attn_rope", "n_head=4 n_embd=0 ffn=0"),
        ("net:mlp_up_proj", "n_head=4 n_embd=0 ffn=0"),
        ("net one layer: Softmax", "hidden=0 heads=0 ffn=0"),
        ("net", "layers=2 hidden=64 heads=4 experts=4 top_k=9"),
    ],
)
def test_what_has_no_size_is_skipped(model: str, params: str) -> None:
    found = sort({"t": [_row(**DECODER | {"model": model, "params": params, "n_gpus": "2"})]})
    assert (found.kernels, found.messages, found.wholes) == ([], [], [])
    assert len(found.skipped["t"]) == 1


BERT = Transformer("encoder", 2, 64, 2, 2, 256, 0)
PASS = Setting(1, 32, 32, "fp16", is_causal=False)


def flows(flow: Flow, at: Setting = PASS, model: Transformer = BERT) -> int:
    """How many flows of a kind one pass of a small encoder runs."""
    works = transformer_pass(model, at).works.items()
    return sum(n for work, n in works if isinstance(work, Traffic) and work.flow is flow)


def test_software_runs_the_kernels_that_it_is_known_to_run() -> None:
    """A compiler joins activations with products; a library sorts heads; gates stay kernels."""
    assert flows(Flow.ACTIVATION) == 2
    engine, library = replace(PASS, joins_activations=True), replace(PASS, calls_kernels=True)
    assert flows(Flow.ACTIVATION, engine) == 0
    assert flows(Flow.ACTIVATION, engine, replace(BERT, is_gated=True)) == 2
    assert flows(Flow.COPY) == flows(Flow.COPY, replace(library, queries=1)) == 0
    assert flows(Flow.COPY, library) == 2
    engines = [joins_activations(x) for x in ("tensorrt-8.6", "paddle-trt", "tensorrt-llm")]
    assert engines == [True, True, False]
    assert calls_kernels("fastertransformer-tensorflow")
    assert not calls_kernels("torchscript")
