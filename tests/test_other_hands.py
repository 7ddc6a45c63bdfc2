"""Tables as other people spell them: every row is predicted, or skipped with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.predict import predict, summary
from benchmarks.tables import headings
from benchmarks.tables.hardware import counted_devices, device_of
from benchmarks.tables.observations import Message, Timed, timed
from benchmarks.tables.public import public_model
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import resolution_of
from benchmarks.tables.study import sort
from benchmarks.tables.wholes import whole_of
from planner import resources
from planner.cost.curves import Library
from planner.cost.work import Attention, Convolution, Product, Traffic
from planner.spec.fits import FitFile, read_fits

TABLES = {
    "products": """GPU Name,Kernel,dtype,M,N,K,latency (us),TFLOPS,Remarks
A100-SXM4-80GB,gemm,float16,4096,4096,4096,600,229,x
A100-SXM4-80GB,gemm,float16,4096,4096,4096,600,229,x
H100-SXM5-80GB,gemm,torch.bfloat16,4096,4096,4096,240,573,
H800,gemm,torch.bfloat16,4096,4096,4096,240,,
""",
    "models": """model,device,num_gpus,tp_size,dtype,bs,input_len,output_len,metric,value,backend
meta-llama/Llama-3-70B-Instruct,NVIDIA H100 80GB HBM3,8,8,bfloat16,1,1024,128,latency_s,1.9,vLLM 0.4
Qwen/Qwen2-7B,H100 SXM,1,1,fp8,1,1024,1,TTFT (ms),30,TRT-LLM
bert-base-uncased,Tesla T4,1,1,fp32,1,128,,latency_ms,9.1,pytorch
bert-base-uncased,Tesla T4,1,1,fp32,1,128,,latency_ms,9.1,pytorch
SomeNet-12,Tesla T4,1,1,fp32,1,128,,latency_ms,9.1,pytorch
bert-base-uncased,Intel Gaudi 3,1,1,fp32,1,128,,latency_ms,9.1,pytorch
""",
    "collectives": """op,size_bytes,hardware,world_size,metric,value,library,dtype
AllReduce,1073741824,8xH100 SXM,8,busbw GB/s,470,nccl-tests,bf16
all-gather,536870912,8xA800,8,algbw (GB/s),150,nccl-tests,bf16
p2p,67108864,A100-SXM4-80GB,2,GB/s,250,nccl,bf16
broadcast,67108864,A100-SXM4-80GB,2,GB/s,250,nccl,bf16
all_reduce,,A100-SXM4-80GB,2,GB/s,250,nccl,bf16
""",
    "headings": """GPU Model,# GPUs,Quantization,Batch Sizes,Network,Avg Latency [ms]
NVIDIA A10G,1,INT8,8,ResNet-50 v1.5,1.2
NVIDIA L4,1,FP16,8,Swin_T_224,2.5
NVIDIA L4,1,FP16,8,SSD-ResNet34,2.5
NVIDIA L4,1,FP16,,faster-rcnn-resnet50,2.5
""",
    "shapes": """Platform|dtype|M|N|K|Time (us)
B200|fp8|8192|8192|8192|330
L40S|nvfp4|8192|8192|8192|330
""",
    "flows": """op,device,dtype,heads,head_dim,batch,seqlen,causal,size_bytes,time_us
attention,L40S,fp16,32,64,8,2048,False,,2100
copy,H200,fp16,,,,,,1073741824,480
gelu,H200,fp16,,,,,,0,480
softmax,H200,fp16,,,,,,1073741824,480
""",
    "nothing": "",
    "attention": """source;model;gpu;precision;batch;seq_in;metric;value
x/y;flash_attention heads=32 kv_heads=8 head_dim=128;A100;fp16;4;2048;ms;0.9
x/y;flash_attention heads=32 kv_heads=8 head_dim=128;A100;fp16;;2048;ms;0.9
""",
    "rows": """model\tgpu\tprecision\tms\tUnnamed: 0
softmax rows=4096 width=4096\tRTX 4090\thalf\t0.06\t1
layernorm rows=4096\tRTX A6000\tfloat16\t0.03\t2
matmul 4096x4096x4096\tRTX 3090\ttf32\tNaN\t3
matmul 4096x4096x4096\tRTX 3090\ttf32\t-4\t4
matmul 4096x4096x4096\tRTX 3090\ttf32\tsoon\t5
matmul 0x4096x4096\tRTX 3090\ttf32\t1\t6
""",
}
EXPECTED: dict[str, tuple[int, int, set[str]]] = {
    "products": (8, 7, {"no value"}),
    "models": (
        *(6, 4),
        {"model 'SomeNet-12' is unknown", "no profile for the device 'Intel Gaudi 3'"},
    ),
    "collectives": (5, 3, {"model 'broadcast' is unknown", "no message size"}),
    "headings": (
        *(4, 2),
        {"model 'SSD-ResNet34' is unknown", "model 'faster-rcnn-resnet50' is unknown"},
    ),
    "shapes": (2, 1, {"format 'nvfp4' is not modelled"}),
    "flows": (4, 2, {"a size is not positive", "the size of 'softmax' is not stated"}),
    "nothing": (0, 0, set()),
    "attention": (2, 1, {"no batch"}),
    "rows": (
        *(6, 1),
        {
            *("the size of 'layernorm' is not stated", "the value is no number"),
            *("the value is not positive", "a size is not positive"),
        },
    ),
}


@pytest.fixture(scope="module")
def files() -> list[FitFile]:
    return [read_fits(path) for path in resources.fits()]


@pytest.mark.parametrize("mode", [None, "shape", "device", "model"])
def test_every_row_is_predicted_or_has_its_reason(
    tmp_path: Path, files: list[FitFile], mode: str | None
) -> None:
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    tables = read_folder(tmp_path)
    rows = sort(tables)
    report = summary(tables, rows, predict(rows, files, mode), Library(files))["tables"]
    for name, (count, known, reasons) in EXPECTED.items():
        found = report[name]
        assert found["rows"] == count == found["predicted"] + sum(found["skipped"].values())
        assert reasons <= set(found["skipped"])
        if mode is None:
            assert (found["predicted"], set(found["skipped"])) == (known, reasons)


def read(tmp_path: Path, text: str) -> list[Row]:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return read_folder(tmp_path)["t"]


def test_a_columns_own_name_is_read_before_any_other(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "GPU,device,value,latency_ms,batch,bs\nL4,other,7,8,,9\n")
    assert (row.gpu, row.value, row.metric, row.batch) == ("L4", "7", "", "")


def test_each_measured_column_is_a_row_where_none_is_called_value(tmp_path: Path) -> None:
    first, second = read(tmp_path, "model;dev;latency-ms;Throughput img/s\nresnet50;x;1,234.5;\n")
    assert (first.metric, first.value) == ("latency_ms", "1,234.5")
    assert (second.metric, second.value) == ("throughput_img/s", "")


def test_a_heading_may_take_two_lines(tmp_path: Path) -> None:
    (row,) = read(tmp_path, 'model,gpu,"latency\n(ms)"\nresnet50,L4,5\n')
    assert (row.model, row.metric, row.value) == ("resnet50", "latency_(ms)", "5")


def test_sizes_in_columns_join_what_they_are_sizes_of(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "op\tM\tN\tsize_bytes\tms\ngemm m=3\t1\t2\t\t5\n")
    assert (row.model, row.params) == ("gemm m=3 n=2", "")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        *(("roberta-large", 24), ("FacebookAI/xlm-roberta-base", 12), ("hubert-base", None)),
        *(("Qwen/Qwen2-57B-A14B", 28), ("Qwen/Qwen2-7B", 28), ("Llama-4-Scout-17B-16E", 48)),
        *(("meta-llama/Llama-2-7b-hf", 32), ("google/bert_uncased_L-4", None), ("bert-tiny", 2)),
        *(("google/bert_uncased_L-4_H-512_A-8", 4), ("all-MiniLM-L12-v2", 12), ("rembert", None)),
        *(("bertweet-large", 24), ("ms-marco-MiniLM-L-6-v2", 6)),
        *(("gpt3-6.7b", 32), ("GPT-3 175B", 96), ("albert-xxlarge-v2", 12), ("llama-65b", 80)),
        *(("GPT-20B", 44), ("gpt-2.7b", 32), ("gpt2", 12), ("BERT-1.3B", 24), ("bert-104b", None)),
        *(("llama-7b", 32), ("llama-9b", None), ("gpt-neo-1.3b", 24), ("Falcon 180B", 80)),
        *(("Gemma 2B", 18), ("Mixtral-8x7B", 32), ("TinyLlama-1.1B", 22), ("mistral-12b", None)),
    ],
)
def test_a_name_means_its_own_model_or_none(name: str, layers: int | None) -> None:
    found = public_model(name.lower())
    assert (found.layers if found else None) == layers


def test_a_70b_shares_its_keys_and_a_65b_does_not() -> None:
    found = [public_model(name) for name in ("llama 70b", "llama-2-70b", "llama-65b")]
    assert [one.kv_heads if one else None for one in found] == [8, 8, 64]


def test_attention_is_read_by_its_usual_headings(tmp_path: Path) -> None:
    head = "kernel,GPU,dtype,Batch,{},NumHeads,HeadDim,Causal,Forward (TFLOPS)\n"
    line = "flash_attn,A100,fp16,2,{},32,64,False,150\n"
    rows = read(tmp_path, head.format("Seqlen") + line.format("1024"))
    rows += read(tmp_path, head.format("q_len,kv_len") + line.format("1024,1024"))
    rows += read(tmp_path, head.format("q_len,kv_len") + line.format("1,4096"))
    whole, same, step = (timed(row) for row in rows)
    assert isinstance(whole, Timed)
    assert isinstance(same, Timed)
    assert isinstance(step, Timed)
    assert whole.work == same.work == Attention(2, 32, 32, 64, 1024, 1024, is_causal=False)
    assert step.key == "decode/fp16"


def test_attention_of_a_layer_is_that_of_one_rank(tmp_path: Path) -> None:
    head = "model;params;gpu;tp;precision;batch;seq_in;us\n"
    config = "n_head=32 n_kv_head=8 n_embd=4096 ffn=14336"
    rows = read(tmp_path, f"{head}Llama-3-8B:attn_decode;{config};H100;2;fp16;16;2048;9\n")
    chunk = f"{config} prefill_chunk_size=512 kv_cache_size=1536"
    rows += read(tmp_path, f"{head}Llama-3-8B:attn_prefill;{chunk};H100;2;fp16;1;;9\n")
    found = [one.work for one in map(timed, rows) if isinstance(one, Timed)]
    assert found == [Attention(16, 16, 4, 128, 1, 2048), Attention(1, 16, 4, 128, 512, 2048)]


def test_units_may_stand_in_the_heading_of_a_size(tmp_path: Path) -> None:
    head = "collective,message size (MB),num_nodes,gpus_per_node,system,latency_ms\n"
    (row,) = read(tmp_path, f"{head}allreduce,64,4,8,DGX H100,0.9\n")
    message = timed(row)
    assert isinstance(message, Message)
    found = message.collective
    assert (found.size_bytes, found.ranks, found.ranks_per_node) == (64e6, 32, 8)


@pytest.mark.parametrize(
    ("columns", "cells", "ranks"),
    [
        ("num_nodes,gpus_per_node", "2 nodes,8", (16, 8)),
        ("nodes,n_gpus", "2,8", (8, 4)),
        ("num_nodes,n_gpus", "1 node,8", (8, 8)),
    ],
)
def test_machines_are_counted_with_their_unit(
    tmp_path: Path, columns: str, cells: str, ranks: tuple[int, int]
) -> None:
    head = f"collective,size (bytes),gpu,latency_us,{columns}\n"
    (row,) = read(tmp_path, f"{head}all_reduce,1048576,A100,100,{cells}\n")
    message = timed(row)
    assert isinstance(message, Message)
    found = message.collective
    assert (found.ranks, found.ranks_per_node) == ranks


@pytest.mark.parametrize("gpu", ["8xA100", "A100 x 8", "A100-SXM4-80GB (x8)", "A100*8"])
def test_devices_are_counted_before_and_behind_their_name(gpu: str, tmp_path: Path) -> None:
    (row,) = read(tmp_path, f"model,gpu,dtype,latency_ms\nbert,{gpu},fp16,9\n")
    assert counted_devices(row) == 8
    assert device_of(row.gpu).name == "a100-sxm-80gb"


def test_many_products_at_once_are_read_from_the_batch(tmp_path: Path) -> None:
    head = "op,gpu,dtype,batch,M,N,K,us\n"
    lines = [f"{op},A100,fp16,16,8,9,7,5\n" for op in ("bmm", "gemm")]
    rows = read(tmp_path, head + "".join(lines))
    works = [one.work for one in map(timed, rows) if isinstance(one, Timed)]
    lanes = [work.batch for work in works if isinstance(work, Product)]
    assert lanes == [16, 1]


def test_a_convolution_is_read_by_name_and_by_letters(tmp_path: Path) -> None:
    head = "op,gpu,dtype,batch,in_channels,out_channels,height,width,kernel,stride,us\n"
    rows = read(tmp_path, f"{head}conv2d,T4,fp16,8,64,128,56,56,3,2,9\n")
    named = "conv N=8 C=64 H=56 W=56 K=128 R=3 S=3 stride=2 pad=1"
    rows += read(tmp_path, f"op,gpu,dtype,us\n{named},T4,fp16,9\n")
    short = "conv2d cin=64 cout=128 h=56 w=56 k=3 s=2 p=1"
    rows += read(tmp_path, f"op,gpu,dtype,batch,us\n{short},T4,fp16,8,9\n")
    rows += read(
        tmp_path, "op,N,C,H,W,K,R,stride,gpu,dtype,us\nconv,8,64,56,56,128,3,2,T4,fp16,9\n"
    )
    found = [one.work for one in map(timed, rows) if isinstance(one, Timed)]
    assert found == [Convolution(8, 64, 128, 28, 28, (3, 3), 2)] * 4
    (row,) = read(tmp_path, "op,gpu,dtype,us\nconv2d C=64,T4,fp16,9\n")
    with pytest.raises(UnpredictableError, match="size of a convolution"):
        timed(row)


@pytest.mark.parametrize(
    ("sizes", "known"),
    [
        ("16x32x64", True),
        ("16 x 32 x 64 fp16", True),
        ("8x16x32x64", False),
        ("8 x 16 x 32 x 64", False),
    ],
)
def test_a_product_is_read_from_three_sizes_and_not_from_four(
    tmp_path: Path, sizes: str, known: bool
) -> None:
    head = "op,gpu,dtype,config,us\n"
    rows = read(tmp_path, f"{head}bmm {sizes},A100,fp16,,9\nmatmul,A100,fp16,shape {sizes},9\n")
    works = [found.work for row in rows if isinstance(found := timed(row), Timed)]
    assert works == ([Product(16, 32, 64)] * 2 if known else [])


@pytest.mark.parametrize(
    ("sizes", "kernel", "stride"),
    [
        ("kernel=3 s=2 pad=1", (3, 3), 2),
        ("R=3 S=1 stride=2 pad=0", (3, 1), 2),
        ("kernel=3 stride=2 s=2 pad=1", (3, 3), 2),
    ],
)
def test_an_s_is_a_stride_unless_it_follows_an_r(
    tmp_path: Path, sizes: str, kernel: tuple[int, int], stride: int
) -> None:
    (row,) = read(tmp_path, f"op,gpu,dtype,us\nconv2d cin=64 cout=9 h=56 {sizes},T4,fp16,9\n")
    found = timed(row)
    assert isinstance(found, Timed)
    assert isinstance(found.work, Convolution)
    assert (found.work.kernel, found.work.stride) == (kernel, stride)


@pytest.mark.parametrize(
    "name", ["conv2d_transpose kernel=3", "conv2d_backward kernel=3", "conv2d kernel=3 dilation=2"]
)
def test_other_convolutions_are_not_priced_as_plain_ones(tmp_path: Path, name: str) -> None:
    (row,) = read(tmp_path, f"op,gpu,dtype,us\n{name} cin=64 cout=9 h=56 w=56,T4,fp16,9\n")
    rows = sort({"t": [row]})
    assert not rows.kernels
    assert sum(rows.skipped["t"].values()) == 1


MODELS = "model,gpu,tp,n_gpus,parallelism,precision,batch,seq_in,seq_out,metric,value\n"


@pytest.mark.parametrize(
    ("line", "degrees"),
    [
        *(("opt-66b,A100,,8,TP8,fp16", ("8", "")), ("opt-66b,A100,,16,TP8 PP2,fp16", ("8", "2"))),
        *(("opt-66b,A100,,8,,fp16", ("8", "")), ("opt-66b,8xA100,,,,fp16", ("8", ""))),
        *(("opt-66b,A100,4,8,,fp16", ("4", "")), ("bert-base,A100,,8,,fp16", ("", ""))),
        *(("opt-66b,A100,,8,DP8,fp16", ("", "")), ("opt-66b,A100,,8,dp=2,fp16", ("4", ""))),
        *(
            ("opt-66b,A100,,8,data parallel 4,fp16", ("2", "")),
            ("opt-66b,A100,,8,ddp,fp16", ("8", "")),
        ),
    ],
)
def test_degrees_are_read_wherever_they_are_stated(
    tmp_path: Path, line: str, degrees: tuple[str, str]
) -> None:
    (row,) = read(tmp_path, f"{MODELS}{line},4,128,64,latency_s,1\n")
    found = whole_of(row).row
    assert (found.tp, found.pp) == degrees


def test_rates_count_copies_devices_and_tokens(tmp_path: Path) -> None:
    def rate(line: str, metric: str) -> float:
        (row,) = read(tmp_path, f"{MODELS}{line},4,128,64,{metric},1\n")
        return whole_of(row).value(1e6)

    assert rate("opt-66b,A100,4,,,fp16", "tokens/s") == pytest.approx(4 * 64)
    assert rate("opt-66b,A100,4,,,fp16", "tokens/s/gpu") == pytest.approx(64)
    assert rate("opt-66b,A100,4,8,,fp16", "tokens/s") == pytest.approx(2 * 4 * 64)
    assert rate("opt-66b,A100,4,,,fp16", "total_token_throughput tok/s") == pytest.approx(4 * 192)
    assert rate("bert-base,A100,,8,,fp16", "sequences/s") == pytest.approx(8 * 4)


def test_clients_of_a_server_are_prefilled_one_by_one(tmp_path: Path) -> None:
    head = "model_id,gpu,dtype,max_concurrency,input_len,output_len,mean_ttft_ms,mean_tpot_ms\n"
    first, step = read(tmp_path, f"{head}meta-llama/Llama-3-8B,H100,bf16,32,1024,128,90,9\n")
    (prefill, _), (decode, _) = (whole_of(row).passes[0] for row in (first, step))
    assert {w.batch for w in prefill.works if isinstance(w, Attention)} == {1}
    assert {w.batch for w in decode.works if isinstance(w, Attention)} == {32}


@pytest.mark.parametrize(
    ("line", "metric", "reason"),
    [
        ("bert-base,A100,1,1,,fp16,8,128,,", "training_throughput seq/s", "training"),
        ("longformer-base,A100,1,1,,fp16,8,128,,", "latency_ms", "does not attend to all"),
        ("resnet50,A100,1,1,Offline,int8,,,,", "samples/s", "no batch"),
    ],
)
def test_what_cannot_be_told_is_skipped_with_its_reason(
    tmp_path: Path, line: str, metric: str, reason: str
) -> None:
    rows = sort({"t": read(tmp_path, f"{MODELS}{line}{metric},5\n")})
    assert [reason in why for why in rows.skipped["t"]] == [True]


def test_attention_that_sees_everything_is_twice_the_work(tmp_path: Path) -> None:
    head = "op,gpu,dtype,heads,batch,seq_len,Causal,us\n"
    some = read(tmp_path, f"{head}attention,A100,fp16,8,1,512,no,9\n")
    rows = [*some, *read(tmp_path, f"{head}attention,A100,fp16,8,1,512,true,9\n")]
    everything, half = (timed(row) for row in rows)
    assert isinstance(everything, Timed)
    assert isinstance(half, Timed)
    assert everything.work.flops == pytest.approx(2 * half.work.flops, rel=0.01)


@pytest.mark.parametrize(
    ("cell", "size"),
    [
        *(("1048576", 2**20), ("1,048,576", 2**20), ("1048576.0", 2**20), ("5.5e6", 5_500_000)),
        *(("16 MB", 16_000_000), ("16 MiB", 2**24), ("1.5GiB", 1.5 * 2**30)),
        *(("64M", None), ("1.5", None), ("1,5", None), ("2^20", None)),
    ],
)
def test_sizes_are_read_whole_or_not_at_all(tmp_path: Path, cell: str, size: float | None) -> None:
    head = "op;gpu;dtype;world_size;size_bytes;us\n"
    (copied,) = read(tmp_path, f"{head}copy;A100;fp16;1;{cell};9\n")
    (reduced,) = read(tmp_path, f"{head}all_reduce;A100;fp16;8;{cell};9\n")
    if size is None:
        for row, reason in ((copied, "not stated"), (reduced, "no message size")):
            with pytest.raises(UnpredictableError, match=reason):
                timed(row)
        return
    copy, message = timed(copied), timed(reduced)
    assert isinstance(copy, Timed)
    assert copy.work.size_bytes == 2 * size
    assert isinstance(message, Message)
    assert message.collective.size_bytes == size


def test_sizes_of_products_may_have_separators(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "op;gpu;dtype;M;N;K;us\ngemm;A100;fp16;4,096;4e3;128.0;9\n")
    product = timed(row)
    assert isinstance(product, Timed)
    assert product.work.flops == 2 * 4096 * 4000 * 128


def test_the_year_of_a_data_set_is_no_size_of_its_images(tmp_path: Path) -> None:
    head = "model;gpu;precision;ms;notes\n"
    rows = read(tmp_path, f"{head}resnet50;A100;fp16;9;ImageNet 2012, images 1000\n")
    assert [resolution_of(row) for row in rows] == [None]
    for stated in ("img_size=384", "input 1x3x384x384", "384 x 384"):
        rows = read(tmp_path, f"{head}resnet50;A100;fp16;9;{stated}\n")
        assert [resolution_of(row) for row in rows] == [384]


def test_larger_images_are_more_work(tmp_path: Path) -> None:
    head = "model,gpu,precision,ms\n"
    (small,) = read(tmp_path, f"{head}resnet50,A100,fp16,9\n")
    (large,) = read(tmp_path, f"{head}resnet50 448x448,A100,fp16,9\n")
    flops = [
        sum(w.flops * n for w, n in whole_of(r).passes[0][0].works.items()) for r in (small, large)
    ]
    assert flops[1] == pytest.approx(4 * flops[0], rel=0.01)


def test_columns_of_inference_are_read_without_saying_so(tmp_path: Path) -> None:
    head = "model,gpu,dtype,infer_samples_per_sec,infer_batch_size,infer_img_size\n"
    (row,) = read(tmp_path, f"{head}mobilenetv3_large_100,RTX 3090,fp16,9000,256,160\n")
    (one,) = whole_of(row).passes
    first = next(iter(one[0].works))
    assert isinstance(first, Convolution)
    assert (first.batch, first.height) == (256, 80)


@pytest.mark.parametrize(
    ("name", "params", "rows"),
    [
        *(("softmax 64x128", "", 64), ("layer_norm (4, 16, 128)", "", 64)),
        *(("rmsnorm", "64x128", 64), ("softmax", "(2,4,8,128)", 64)),
    ],
)
def test_tensors_of_flows_are_rows_of_their_last_size(name: str, params: str, rows: int) -> None:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"model": name, "params": params, "gpu": "A100", "precision": "fp16"}
    found = timed(Row(**(cells | {"metric": "us", "value": "9"})))
    assert isinstance(found, Timed)
    assert isinstance(found.work, Traffic)
    assert (found.work.rows, found.work.size_bytes) == (rows, 2 * 64 * 128 * 2)


@pytest.mark.parametrize(
    ("head", "cells", "reason"),
    [
        ("op,m,n,k,latency", "gemm,8,8,8,9", "the unit of 'latency' is not stated"),
        ("model,batch,seq_in,mean_ttft", "llama-7b,8,8,9", "the unit of 'mean_ttft' is not stated"),
        ("model,batch,seq_in,tokens/s", "llama-7b,8,8,9", "no seq_out"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, head: str, cells: str, reason: str) -> None:
    rows = sort({"t": read(tmp_path, f"{head},gpu,dtype\n{cells},A100,fp16\n")})
    assert dict(rows.skipped["t"]) == {reason: 1}


def test_no_name_of_a_column_means_two() -> None:
    others = [name for names in headings.ALSO.values() for name in names]
    assert len(others) == len(set(others))
    own = set(Row.__dataclass_fields__) - {"table"}
    assert own == set(headings.ALSO)
    assert not own & set(others)
