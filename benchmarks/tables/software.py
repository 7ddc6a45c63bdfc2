"""Which software ran a row, by what its source and notes say; a known factor of every latency."""

from __future__ import annotations

import re

from benchmarks.tables.rows import Row

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"column \"torchscript|torchscript|torch\.jit", "torchscript"),
    (r"column \"tf(-fp16|-xla)?\"", "tensorflow"),
    (r"petals", "petals"),
    (r"tensorflow2", "tensorflow2"),
    (r"hugging face accelerate", "accelerate"),
    (r"zero-inference|zero-offload", "deepspeed-zero"),
    (r"flexgen|flexllmgen", "flexgen"),
    (r"paddle-?trt", "paddle-trt"),
    (r"paddle", "paddle"),
    (r"trt[-_ ]?llm|tensorrt[-_ ]llm", "tensorrt-llm"),
    (r"tensorrt", "tensorrt"),
    (r"dense eff|ft dense|ft sparse|sparse eff", "fastertransformer-sparsity"),
    (r"eff-ft|ft-tf|\bft\b|fastertransformer", "fastertransformer"),
    (r"onnx ?runtime", "onnxruntime"),
    (r"sglang", "sglang"),
    (r"vllm", "vllm"),
    (r"lmdeploy|turbomind", "lmdeploy"),
    (r"text-generation-inference|(?<![a-z])tgi(?![a-z])", "tgi"),
    (r"megatron", "megatron"),
    (r"deepspeed", "deepspeed"),
    (r"tensorflow", "tensorflow"),
    (r"compile=false|eager", "torch-eager"),
    (r"compile=true|torch\.compile|gpt-fast|pytorch/ao|torchao", "torch-compile"),
    (r"pytorch|transformers|hugging|neusight", "torch-eager"),
)
EAGER = frozenset({"torch-eager", "accelerate", "deepspeed-zero", "paddle"})
"""Some eight small operators are dispatched for each that a graph counts, 6 to 10 us each."""
EAGER_DISPATCH_US = 60.0
SIMILAR = {
    "paddle-trt": "tensorrt-8.6",
    "onnxruntime": "tensorrt-8.6",
    "tensorrt": "tensorrt-8.6",
    "tensorflow2": "tensorflow",
    "paddle": "torchscript",
    "tensorrt-llm": "torch-compile",
    "vllm": "torch-compile",
    "sglang": "torch-compile",
    "lmdeploy": "torch-compile",
    "tgi": "torch-compile",
    "deepspeed": "fastertransformer",
    "megatron": "torchscript",
}
"""Whose factors serve where a software has none of its own: built the same way. Engines for serving
fuse what FasterTransformer calls one by one, and replay what they decode as a graph."""
SERVING = frozenset({"tensorrt-llm", "vllm", "sglang", "lmdeploy", "tgi"})
"""Engines that answer many clients at once."""
BUILT_WITH = {"tensorrt": "paddle-trt"}
"""Software, whatever its version, whose engines run in another: its rows tell of kinds of models
that were measured there alone."""
REPLAYED = frozenset({"torch-compile"})
"""Compiled once and replayed as CUDA graphs (gpt-fast's and torchao's way of decoding)."""
LIBRARY = "library"
"""Kernels alone, nothing added: what rows of unknown software are predicted as."""
FRAMEWORKS, ENGINES = "frameworks", "engines"
"""Pools of software (`pool_of`)."""
UNFUSED = EAGER | {"torchscript", "tensorflow", "tensorflow2"}
"""Attention is two products and a softmax; bias and residual are kernels of their own."""
_COMPILERS = ("tensorrt", "paddle-trt")


def joins_activations(runtime: str) -> bool:
    """Whether activations are the end of a product's kernel: engines of a compiler, whatever the
    version; libraries of kernels (FasterTransformer) call cuBLAS and then a kernel of their own."""
    return runtime in _COMPILERS or re.match(r"tensorrt-\d", runtime) is not None


def calls_kernels(runtime: str) -> bool:
    """Whether a library calls a kernel that adds the bias to queries, keys and values and sorts
    them by heads before several positions are attended to, and, before the next norm of a decoder,
    one that adds bias and residual (FasterTransformer: bert_guide.md, gpt_guide.md, workflow)."""
    return runtime.startswith("fastertransformer")


def collectives_of(runtime: str) -> str:
    """Whose all-reduce a software runs between devices that see each other's memory: serving
    engines bring kernels of their own, which start in a fifth of NCCL's time (vLLM's and SGLang's
    custom_all_reduce, TensorRT-LLM's AllReduce plugin)."""
    return "custom" if runtime in SERVING else "nccl"


def runtime_of(row: Row) -> str:
    """The software, with its version where the text states one and versions are known to differ."""
    text = f"{row.model} {row.text}".lower()
    for pattern, name in _PATTERNS:
        if not re.search(pattern, text):
            continue
        if name == "tensorrt":
            version = re.search(r"tensorrt\s*v?(\d+)\.(\d+)", text)
            return f"tensorrt-{version[1]}.{version[2]}" if version else name
        if name == "fastertransformer" and "tensorflow" in text:
            return "fastertransformer-tensorflow"
        return name
    return LIBRARY


def pool_of(runtime: str) -> str | None:
    """All software that runs models the same way, which serves where nothing closer is known: one
    kernel for each operator, or fused ones. None of software that says nothing of itself, and of
    what replays a graph on the device, where no host comes between kernels."""
    if runtime == LIBRARY or runtime in REPLAYED:
        return None
    return FRAMEWORKS if runtime in UNFUSED else ENGINES
