"""Models as tables name them: their weights are the published ones."""

from __future__ import annotations

import pytest

from benchmarks.tables.passes import Pass
from benchmarks.tables.public import public_model
from benchmarks.tables.rows import Row, UnpredictableError
from benchmarks.tables.shapes import image_tokens
from benchmarks.tables.wholes import whole_of
from planner.cost.work import Experts, Product

PUBLISHED = {
    "bert-base-uncased": 110,
    "roberta-large": 335,
    "xlm-roberta-base": 278,
    "xlm-roberta-xl": 3480,
    "google/electra-large-discriminator": 335,
    "microsoft/deberta-v3-base": 184,
    "microsoft/deberta-v3-large": 435,
    "deberta-v2-xlarge": 885,
    "distilbert-base": 66,
    "TinyBERT_General_4L_312D": 14.5,
    "BAAI/bge-small-en": 33.4,
    "openai/whisper-tiny": 37.8,
    "whisper-small": 244,
    "whisper-large-v3": 1550,
    "distil-whisper/distil-large-v3": 756,
    "whisper-large-v3-turbo": 809,
    "google/flan-t5-xl": 2850,
    "gemma2:9b": 9240,
    "deepseek-r1:14b": 14800,
    "deepseek-r1:671b": 671000,
    "DeepSeek-R1-0528-Qwen3-8B": 8190,
    "phi3:3.8b": 3820,
    "yi:34b": 34400,
    "qwq": 32800,
    "falcon3:10b": 10300,
    "tiiuae/Falcon3-7B-Instruct": 7460,
    "ibm-granite/granite-3.1-8b-instruct": 8170,
    "granite3.1-dense:2b": 2530,
    "ibm-granite/granite-8b-code-base": 8050,
    "allenai/OLMo-2-1124-13B": 13700,
    "olmo2:7b": 7300,
    "allenai/OLMoE-1B-7B-0924": 6920,
    "HuggingFaceTB/SmolLM3-3B": 3080,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108000,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": 400000,
    "moonshotai/Moonlight-16B-A3B-Instruct": 16000,
    "nvidia/Mistral-NeMo-Minitron-8B-Base": 8410,
    "mistralai/Devstral-Small-2505": 23600,
    "HuggingFaceH4/zephyr-7b-beta": 7240,
    "WizardLM/WizardLM-13B-V1.2": 13000,
    "bigscience/bloomz-7b1": 7070,
    "mlx-community/Llama-3.2-3B-Instruct-8bit": 3210,
    "flan-t5-xxl": 11300,
    "t5-v1_1-base": 248,
    "google/mt5-base": 582,
    "mt5-xxl": 12900,
    "flan-ul2": 20000,
    "t5-11b": 11300,
    "facebook/bart-large": 406,
    "sshleifer/distilbart-cnn-12-6": 306,
    "google/pegasus-xsum": 568,
    "Helsinki-NLP/opus-mt-en-de": 74,
    "facebook/nllb-200-3.3B": 3340,
    "mbart-large-50": 611,
    "distilgpt2": 82,
    "EleutherAI/gpt-neo-2.7B": 2650,
    "EleutherAI/pythia-6.9b": 6860,
    "bigscience/bloom-560m": 559,
    "meta-llama/Llama-3.3-70B-Instruct": 70600,
    "Mixtral-8x7B-Instruct-v0.1": 46700,
    "mistralai/Mixtral-8x22B": 140600,
    "mistralai/Codestral-22B-v0.1": 22200,
    "deepseek-ai/DeepSeek-V3": 671000,
    "DeepSeek-R1-0528": 671000,
    "deepseek-ai/DeepSeek-V2-Lite-Chat": 15700,
    "DeepSeek-V2.5": 236000,
    "deepseek-moe-16b-base": 16400,
    "DeepSeek-R1-Distill-Llama-8B": 8030,
    "DeepSeek-R1-Distill-Qwen-32B": 32800,
    "deepseek-llm-67b": 67400,
    "moonshotai/Kimi-K2-Instruct": 1026000,
    "zai-org/GLM-4.5": 355000,
    "GLM-4.5-Air": 106000,
    "THUDM/glm-4-9b": 9400,
    "Qwen/Qwen2-57B-A14B-Instruct": 57400,
    "Qwen1.5-MoE-A2.7B": 14300,
    "Qwen/Qwen3-30B-A3B": 30500,
    "Qwen3-235B-A22B": 235000,
    "Qwen3-Coder-480B-A35B-Instruct": 480000,
    "Qwen/QwQ-32B": 32800,
    "Qwen1.5-110B": 111200,
    "Qwen-14B": 14200,
    "Qwen1.5-0.5B": 464,
    "microsoft/phi-4": 14700,
    "Phi-3.5-MoE-instruct": 41900,
    "xai-org/grok-1": 314000,
    "google/gemma-2-2b-it": 2610,
    "gemma-3-27b": 27000,
    "01-ai/Yi-1.5-9B": 8830,
    "bigcode/starcoder2-7b": 7170,
    "bigcode/starcoder": 15500,
    "internlm2-7b": 7740,
    "CohereForAI/c4ai-command-r-plus": 104000,
    "upstage/SOLAR-10.7B-v1.0": 10700,
    "nemotron-4-340b": 341000,
    "SmolLM2-135M": 135,
    "sentence-transformers/all-MiniLM-L6-v2": 22.7,
    "paraphrase-MiniLM-L3-v2": 17.4,
    "nreimers/MiniLMv2-L6-H768": 66,
    "ms-marco-MiniLM-L-12-v2": 33.4,
    "vit-base-patch16-224": 86.6,
    "deit_small_patch16_224": 22.1,
    "vit_h_14": 632,
    "ViT-L/16": 304,
    "vit_g_14": 1011,
    "facebook/dinov2-giant": 1136,
}
"""Name -> 10^6 weights, as its authors print them."""


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_weights_are_the_published_ones(name: str, published: float) -> None:
    model = public_model(name.lower())
    assert model is not None
    tied, untied = (model.parameters + model.vocab * model.hidden * n for n in (0, 1))
    assert min(abs(found / 1e6 / published - 1) for found in (tied, untied)) < 0.04


@pytest.mark.parametrize(
    "name",
    [
        *("modernbert-base", "mobilebert-uncased", "deberta-v2-base", "byt5-small", "byt5-base"),
        *("Qwen2-VL-7B-Instruct", "llava-1.5-7b", "DeepSeek-V3.2-Exp", "Qwen3-Next-80B-A3B"),
        *("google/siglip-so400m-patch14-384", "vitpose-base", "distilbart-xsum-6-6"),
        *("Qwen1.5-9B", "deepseek-llm-1b", "phi-4-multimodal-instruct", "command-r7b-12-2024"),
        *("gpt-3.5-turbo", "Mistral-Large-3", "GLM-4.5V", "zai-org/GLM-4.6V-Flash", "glm-4v-9b"),
        *("recurrentgemma-2b", "t5gemma-2b-2b", "pnasnet5large", "starcoder2", "Qwen2-Audio-7B"),
        *("sentence-t5-base", "gtr-t5-large", "bert-xlarge", "roberta-tiny", "Qwen2.5-Omni-7B"),
        *("vit_medium_patch16_224", "vit_little_patch16", "vit_so150m_patch16", "deit3_medium"),
    ],
)
def test_relatives_are_not_taken_for_them(name: str) -> None:
    assert public_model(name.lower()) is None


def test_layers_that_are_shared_weigh_once() -> None:
    shared, own = public_model("albert-large-v2"), public_model("bert-large-uncased")
    assert shared is not None
    assert own is not None
    assert shared.layer_parameters == own.layer_parameters
    assert own.layer_weights == 24 * shared.layer_weights


def test_a_latent_cache_is_less_than_a_fiftieth_of_its_heads() -> None:
    model = public_model("deepseek-v3")
    assert model is not None
    assert model.cached == 576
    assert model.cached * 50 < 2 * model.heads * 128


def row(model: str, **others: str) -> Row:
    cells = dict.fromkeys(Row.__dataclass_fields__, "")
    cells |= {"gpu": "A100", "precision": "fp16", "metric": "latency_ms", "value": "9"}
    return Row(**(cells | {"model": model} | others))


def passed(model: str, **others: str) -> list[Pass]:
    return [one for one, _ in whole_of(row(model, **others)).passes]


def multiplied(found: Pass) -> float:
    """10^9 multiply-adds of products."""
    products = {w: n for w, n in found.works.items() if isinstance(w, Product | Experts)}
    return sum(work.flops * count for work, count in products.items()) / 2e9


def test_half_a_minute_of_speech_is_1500_positions() -> None:
    encoder, step = passed("openai/whisper-small", seq_out="100")
    assert encoder == passed("whisper-small", seq_in="30", seq_out="100")[0]
    assert multiplied(encoder) == pytest.approx(130.6, rel=0.001)
    assert multiplied(step) < 0.2
    with pytest.raises(UnpredictableError, match="no seq_out"):
        passed("whisper-small")


def test_distances_are_two_products_more_and_two_projections() -> None:
    plain, relative = passed("bert-base", seq_in="128"), passed("deberta-v3-base", seq_in="128")
    more = multiplied(relative[0]) - multiplied(plain[0])
    projected, scored = 2 * 256 * 768 * 768, 2 * 12 * 128 * 256 * 64
    attended = 2 * 12 * 128 * 128 * 64  # no single kernel does it, so that its products count here
    assert more * 1e9 == pytest.approx(12 * (projected + scored + attended), rel=1e-6)


def test_a_token_of_deepseek_multiplies_with_what_its_authors_say_it_activates() -> None:
    """37 thousand million weights, one of them an embedding that is looked up."""
    (step,) = passed("deepseek-v3", metric="tpot_ms", seq_in="1", batch="1", n_gpus="8", tp="1")
    assert multiplied(step) == pytest.approx(37 - 0.93, rel=0.02)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        *(("vit_b_16", 197), ("ViT-B/32", 50), ("vit-b32", 50), ("vit_h_14", 257)),
        *(("dinov2_vits14", 257), ("clip-vit-large-patch14-336", 577), ("dinov2-base", 257)),
    ],
)
def test_images_are_as_many_positions_as_patches(name: str, positions: int) -> None:
    assert image_tokens(row(name)) == positions
