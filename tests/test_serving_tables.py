"""Tables of serving engines as these print them: what is measured, what runs, what is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.predict import predict
from benchmarks.tables.reading import read_folder
from benchmarks.tables.rows import Row
from benchmarks.tables.study import sort
from benchmarks.tables.weigh import parts_of
from benchmarks.tables.wholes import Whole, whole_of
from planner import resources
from planner.cost.work import Attention, Experts, Flow, Traffic
from planner.spec.fits import read_fits

VLLM = """model_id,gpu,tensor_parallel_size,dtype,quantization,num_prompts,request_rate,\
max_concurrency,input_len,output_len,duration (s),request_throughput,output_throughput,\
total_token_throughput,mean_ttft_ms,p99_ttft_ms,mean_tpot_ms,median_itl_ms,backend
meta-llama/Llama-3.1-8B-Instruct,H100,1,bfloat16,None,320,inf,32,1024,128,20,16,2060,18541,120,400,\
13,9,vllm
meta-llama/Llama-3.1-8B-Instruct,H100,1,bfloat16,fp8,320,4,,1024,128,80,4,512,4608,60,90,12,9,vllm
"""
SGLANG = """model_path,hw,tp_size,batch_size,input_len,output_len,latency (s),\
input_throughput (tok/s),output_throughput (tok/s),overall_throughput (tok/s),framework,dtype
deepseek-ai/DeepSeek-V3,H200 x 8,8,16,1024,256,9.8,13000,520,2600,SGLang 0.4,fp8
"""
TENSORRT_LLM = """Model,GPU,Precision,TP Size,ISL/OSL,Concurrency,Output Throughput (tok/s),\
Throughput per GPU (tokens/sec/GPU),Per User (tok/s/user),Version
Llama v3.3 70B,H200 141GB HBM3,FP8,4,1k/1000,64,2800,700,50,TensorRT LLM 1.0
"""
MATRIX = """model,hw,framework,precision,isl,osl,tp,conc,tput_per_gpu (tok/s/gpu),\
output_tput_per_gpu (tok/s/gpu),median_tpot (s),median_e2el (s),ttft_slo (s)
openai/gpt-oss-120b,h100,vllm,bf16,1024,1024,4,32,1500,750,0.008,8.4,1
"""
LLAMA_CPP = """| model | size | params | backend | ngl | gpu | test | t/s |
| llama 7B Q4_0 | 3.56 GiB | 6.74 B | CUDA | 99 | RTX 4090 | pp512 | 9600.5 \u00b1 12.1 |
| llama 7B Q4_0 | 3.56 GiB | 6.74 B | CUDA | 99 | RTX 4090 | tg128 | 150.2 \u00b1 0.4 |
"""


def read(tmp_path: Path, text: str) -> list[Row]:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return read_folder(tmp_path)["t"]


def wholes(tmp_path: Path, text: str) -> dict[str, Whole]:
    """What is predicted, by metric."""
    return {row.metric: whole for row, whole in sort({"t": read(tmp_path, text)}).wholes}


def batches(whole: Whole) -> list[set[int]]:
    """Of the attentions of each pass."""
    return [{w.batch for w in one.works if isinstance(w, Attention)} for one, _ in whole.passes]


def rate(whole: Whole) -> float:
    """The value where everything takes a second."""
    return whole.value(1e6)


def test_clients_are_the_batch_and_prompts_come_between_tokens(tmp_path: Path) -> None:
    found = wholes(tmp_path, VLLM)
    assert set(found) == {
        *("request_throughput", "output_throughput", "total_token_throughput"),
        *("mean_ttft_ms", "mean_tpot_ms", "median_itl_ms"),
    }
    assert rate(found["request_throughput"]) == 32
    assert rate(found["output_throughput"]) == 32 * 128
    assert rate(found["total_token_throughput"]) == 32 * (1024 + 128)
    assert batches(found["mean_ttft_ms"]) == [{1}]
    assert batches(found["median_itl_ms"]) == [{32}]
    (step, once), (prompt, often) = found["mean_tpot_ms"].passes
    assert (once, often) == (1.0, 31 / 128)
    assert prompt == found["mean_ttft_ms"].passes[0][0]
    assert step == found["median_itl_ms"].passes[0][0]


def test_what_servers_do_not_state_is_not_guessed(tmp_path: Path) -> None:
    reasons = sort({"t": read(tmp_path, VLLM)}).skipped["t"]
    assert reasons == {"no batch": 6, "tails of a server's latencies are not predicted": 2}
    line = "Llama-2-7B,H100,fp16,128,{},{},1\n"
    head = "model,gpu,dtype,seq_in,seq_out,metric,value,notes\n"
    for out, metric, why in (
        ("128", "throughput", "what 'throughput' counts is not stated"),
        ("128,tpot_ms,1,EAGLE-3\n#", "", "speculative decoding is not modelled"),
    ):
        rows = read(tmp_path, head + line.format(out, metric))
        assert why in sort({"t": rows[:1]}).skipped["t"]


PUBLISHED = {1: 30.29, 8: 206.32, 32: 760.52}
"""Batch -> tokens/s of DeepSeek-V3, tensor-parallel over eight GPUs, 128 tokens read and 256
written, SGLang 0.4.1.post2 (sgl-project/sglang, pull request 2643; the GPUs are not named)."""


def test_a_published_run_of_experts_and_latent_vectors_is_inside(tmp_path: Path) -> None:
    head = "model,gpu,tp,precision,batch,seq_in,seq_out,metric,value,notes\n"
    line = "deepseek-ai/DeepSeek-V3,H200 x 8,8,bf16,{},128,256,output tok/s,{},SGLang 0.4\n"
    rows = read(tmp_path, head + "".join(line.format(*each) for each in PUBLISHED.items()))
    files = [read_fits(path) for path in resources.fits()]
    found = predict(sort({"t": rows}), files, None)
    assert len(found) == len(PUBLISHED)
    for one in found:
        assert one.low < one.measured < one.expected < one.high


def test_products_of_latent_attention_in_fp8_scale_their_inputs(tmp_path: Path) -> None:
    head = "model,gpu,tp,precision,batch,seq_in,tpot_ms,notes\n"
    names = ("DeepSeek-V3", "unsloth/DeepSeek-V3-BF16")
    lines = "".join(f"{name},H200,8,bf16,1,128,9,SGLang\n" for name in names)
    kept, wide = (whole_of(row).passes[0][0].works for row in read(tmp_path, head + lines))
    scaled = {w for w in kept if isinstance(w, Traffic) and w.flow is Flow.ELEMENTWISE}
    assert {2 * w.write_size_bytes for w in scaled} == {w.read_size_bytes for w in scaled}
    assert not scaled & wide.keys()
    assert len(scaled) == 3


def test_rates_without_a_batch_are_of_no_known_batch(tmp_path: Path) -> None:
    head = "model,gpu,dtype,seq_in,seq_out,tokens/s,framework\n"
    rows = sort({"t": read(tmp_path, f"{head}GPTJ-6B,H100,FP8,128,128,24814,TensorRT-LLM\n")})
    assert rows.skipped["t"] == {"no batch": 1}


@pytest.mark.parametrize(
    ("model", "columns", "cells", "batch"),
    [
        *(("resnet50", "concurrency", "16", None), ("resnet50", "concurrency", "1", "1")),
        *(("resnet50", "concurrency,batch_size", "16,8", "8"), ("bert-base", "users", "4", None)),
        ("Llama-2-7B", "concurrency", "16", "16"),
    ],
)
def test_clients_are_a_batch_of_models_that_write_alone(
    tmp_path: Path, model: str, columns: str, cells: str, batch: str | None
) -> None:
    head = f"model,gpu,dtype,seq_in,seq_out,requests/s,{columns}\n"
    rows = sort({"t": read(tmp_path, f"{head}{model},A100,fp16,128,64,9,{cells}\n")})
    assert [whole.row.batch for _, whole in rows.wholes] == ([batch] if batch else [])
    assert dict(rows.skipped["t"]) == ({} if batch else {"no batch": 1})


def test_phases_of_one_batch_have_rates_of_their_own(tmp_path: Path) -> None:
    found = wholes(tmp_path, SGLANG)
    assert {each.row.tp for each in found.values()} == {"8"}
    assert rate(found["prefill_throughput_(tok/s)"]) == 16 * 1024
    assert rate(found["decode_throughput_(tok/s)"]) == 16
    assert rate(found["overall_throughput_(tok/s)"]) == 16 * (1024 + 256)
    assert [len(found[name].passes) for name in found] == [2, 1, 1, 2]


def test_two_lengths_may_share_a_column(tmp_path: Path) -> None:
    found = wholes(tmp_path, TENSORRT_LLM)
    assert {(each.row.seq_in, each.row.seq_out) for each in found.values()} == {("1024", "1000")}
    assert {each.runtime for each in found.values()} == {"tensorrt-llm"}
    total, each_gpu, each_user = map(rate, found.values())
    assert (total, each_gpu, each_user) == (64 * 1000, 16 * 1000, 1)


def test_rates_beside_those_of_written_tokens_count_all(tmp_path: Path) -> None:
    found = wholes(tmp_path, MATRIX)
    assert len(found) == 4
    both, written = (
        rate(found[f"{name}_tput_per_gpu_(tok/s/gpu)"]) for name in ("total", "output")
    )
    assert both == 2 * written == 2 * 32 * 1024 / 4


def test_a_column_may_name_the_phase(tmp_path: Path) -> None:
    prompt, step = wholes(tmp_path, LLAMA_CPP).values()
    assert (prompt.format, step.format) == ("int4_wo", "int4_wo")
    assert (rate(prompt), rate(step)) == (512, 1)
    assert prompt.row.pp == ""  # pp512 is a prompt, no pipeline
    assert prompt.row.measured == 9600.5


def test_no_more_requests_run_than_their_caches_fit(tmp_path: Path) -> None:
    head = "model,gpu,dtype,input,output,concurrency,tokens/s,engine\n"
    lines = [f"Llama-3.1-8B,{gpu},bf16,4096,1024,256,9,vLLM\n" for gpu in ("A10", "H200")]
    rows = read(tmp_path, head + "".join(lines))
    weights, token = 15.0, 2 * 32 * 8 * 128 * 2 / 1e9  # 10^9 bytes, a cache's by position
    for row, memory in zip(rows, (24.0, 141.0), strict=True):
        ((most,), (again,)) = batches(whole_of(row))
        assert most == again < 256
        needed = [weights + n * token * (4096 + 512) for n in (most, most + 1)]
        assert needed[0] < 0.9 * memory < needed[1] + 0.1


@pytest.mark.parametrize(
    ("name", "dtype", "format"),
    [
        *(("Llama-3.1-8B-Instruct-FP8", "bfloat16", "fp8"), ("Llama-2-7B-AWQ", "auto", "int4_wo")),
        *(("Llama-2-7B", "bfloat16", "bf16"), ("Llama-2-7B-GPTQ", "int8", "int8")),
        ("Qwen2-7B-Instruct-GPTQ-Int4", "", "int4_wo"),
    ],
)
def test_names_say_how_weights_are_kept(tmp_path: Path, name: str, dtype: str, format: str) -> None:
    head = "model,gpu,dtype,batch_size,input_len,latency_ms\n"
    (row,) = read(tmp_path, f"{head}{name},H100,{dtype},1,128,9\n")
    assert whole_of(row).format == format


def test_a_step_over_latent_vectors_reads_576_elements_a_token(tmp_path: Path) -> None:
    whole = wholes(tmp_path, SGLANG)["decode_throughput_(tok/s)"]
    (core,) = (w for w in whole.passes[0][0].works if isinstance(w, Attention))
    one = Attention(core.batch, core.heads, 1, core.head_dim, 1, core.keys - 1, cached=576)
    assert core.size_bytes - one.size_bytes == core.batch * 576 * 2
    assert core.flops / core.keys == 2 * (576 + 512) * core.heads * core.batch


@pytest.mark.parametrize(
    ("cell", "batch", "heads"), [("true", 2, 128), ("1", 2, 128), ("false", 16, 16), ("", 16, 16)]
)
def test_ranks_may_attend_to_requests_of_their_own(
    tmp_path: Path, cell: str, batch: int, heads: int
) -> None:
    head = "model,gpu,dtype,tp,dp_attention,batch_size,input_len,tpot_ms\n"
    (row,) = read(tmp_path, f"{head}DeepSeek-V3,H200,fp8,8,{cell},16,1024,9\n")
    ((step, _),) = whole_of(row).passes
    (core,) = (work for work in step.works if isinstance(work, Attention))
    assert (core.batch, core.heads) == (batch, heads)
    (experts,) = (work for work in step.works if isinstance(work, Experts))
    assert (experts.tokens, experts.inner) == (16, 256)


@pytest.mark.parametrize(
    ("model", "tp", "shares"),
    [("DeepSeek-V3", 8, 1), ("Llama-3-70B", 4, 4), ("Llama-3-70B", 16, 8)],
)
def test_a_cache_is_spread_by_its_heads(model: str, tp: int, shares: int) -> None:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"model": model, "precision": "bf16", "batch": "4", "seq_in": "1024"}
    one, many = (parts_of(Row(**(cells | {"tp": str(n)}))) for n in (1, tp))
    assert many[0] == pytest.approx(one[0] / tp)
    assert many[1] == pytest.approx(one[1] / shares)
