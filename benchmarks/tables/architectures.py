"""What the cost of a model depends on: transformers, also over windows of images; ResNets."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Latent:
    """Attention over latent vectors (DeepSeek-AI 2024, section 2.1): widths."""

    keys: int
    """Of what a position's keys and values of all heads are made from."""
    queries: int
    """The same of its queries; 0: they are made from the position itself."""
    plain: int = 128
    """Of a head's queries and keys that know no position."""
    rotated: int = 64
    """Of those that do; keys of all heads share them."""
    values: int = 128
    """Of a head's values."""

    @property
    def cached(self) -> int:
        """Elements that a cache holds of each position."""
        return self.keys + self.rotated

    def parameters(self, hidden: int, heads: int) -> int:
        """Weights of one layer."""
        asked = heads * (self.plain + self.rotated)
        queries = (hidden + asked) * self.queries if self.queries else hidden * asked
        made = self.keys * heads * (self.plain + self.values)
        return queries + hidden * self.cached + made + heads * self.values * hidden


@dataclass(frozen=True, slots=True)
class Transformer:
    """What a transformer's cost depends on."""

    kind: str
    """`encoder`, `decoder` or `encoder-decoder`."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    is_gated: bool = False
    """Two products into the inner layer, as in Llama."""
    head_dim: int = 0
    """0: hidden / heads."""
    decoder_layers: int = 0
    """Of an `encoder-decoder`."""
    experts: int = 0
    """Inner layers to choose from; 0: one, and no choice."""
    active_experts: int = 1
    """Inner layers that each token goes through."""
    shared_experts: int = 0
    """Inner layers besides, that every token goes through."""
    dense_layers: int = 0
    """The first of them, without experts."""
    dense_ffn: int = 0
    """Width of their inner layers."""
    latent: Latent | None = None
    """In place of keys and values of heads."""
    relative_positions: int = 0
    """Most distances whose embeddings each head multiplies besides (He et al. 2021)."""
    is_parallel: bool = False
    """Whether attention and inner layer read the same position, and both are added to it."""
    is_shared: bool = False
    """Whether all layers have the same weights (Lan et al. 2020)."""
    positions: int = 0
    """That it reads where a row states none."""
    bands: int = 0
    """Of a spectrogram that two convolutions turn into positions (Radford et al. 2022)."""

    @property
    def width(self) -> int:
        """Of one head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def cached(self) -> int:
        """Elements that a cache holds of each position and layer."""
        return self.latent.cached if self.latent else 2 * self.kv_heads * self.width

    def cache_shares(self, degree: int) -> int:
        """Over how many of the ranks that share each layer a cache is spread: by kv heads, of which
        latent vectors are one."""
        return min(degree, 1 if self.latent else self.kv_heads)

    @property
    def layer_parameters(self) -> float:
        """Weights of one layer's products on average; of an encoder-decoder, of its decoder's share
        too."""
        if self.latent:
            attention = float(self.latent.parameters(self.hidden, self.heads))
        else:
            attention = self.hidden * self.width * (2.0 * self.heads + 2 * self.kv_heads)
        plane = (3 if self.is_gated else 2) * self.hidden
        inner = (max(1, self.experts) + self.shared_experts) * plane * self.ffn
        first = self.dense_layers / self.layers
        inner += first * (plane * self.dense_ffn - inner)
        decoders = self.decoder_layers / self.layers
        return attention + inner + decoders * (2 * attention + inner)

    @property
    def layer_weights(self) -> float:
        """Weights of the products of all layers."""
        return self.layer_parameters * (1 if self.is_shared else self.layers)

    @property
    def parameters(self) -> float:
        """Weights of all products and of one embedding."""
        return self.layer_weights + self.vocab * self.hidden

    @property
    def met_parameters(self) -> float:
        """Weights of all products that one token goes through, and of one embedding."""
        experts = self.active_experts if self.experts else 0
        return replace(self, experts=experts).parameters


@dataclass(frozen=True, slots=True)
class Windows:
    """A Swin transformer (Liu et al. 2021)."""

    width: int
    """Of the first stage; doubles with each."""
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    resolution: int = 224
    window: int = 7
    """Tokens along one side of a window."""


@dataclass(frozen=True, slots=True)
class Residual:
    """A ResNet (He et al. 2015) or ResNeXt (Xie et al. 2017)."""

    depths: tuple[int, int, int, int]
    """Blocks of each stage."""
    is_bottleneck: bool
    groups: int = 1
    group_width: int = 64
    """Channels of one group in the first stage; doubles with each."""
    squeezes: bool = False
    """Whether blocks weigh their channels (Hu et al. 2018)."""
