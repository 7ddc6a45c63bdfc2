"""What the cost of a model depends on: transformers, also over windows of images; ResNets."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def width(self) -> int:
        """Of one head."""
        return self.head_dim or self.hidden // self.heads

    @property
    def layer_parameters(self) -> float:
        """Weights of one layer's products; of an encoder-decoder, of its decoder's share too."""
        attention = self.hidden * self.width * (2 * self.heads + 2 * self.kv_heads)
        inner = max(1, self.experts) * (3 if self.is_gated else 2) * self.hidden * self.ffn
        decoders = self.decoder_layers / self.layers
        return attention + inner + decoders * (2 * attention + inner)

    @property
    def parameters(self) -> float:
        """Weights of all products and of one embedding."""
        return self.layers * self.layer_parameters + self.vocab * self.hidden


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
