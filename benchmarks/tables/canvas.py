"""What layers of a network over images run as kernels, while images shrink and channels grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from benchmarks.tables.passes import WIDE, Pass
from planner.cost.work import ACTIVATION_BYTES, Convolution, Flow, Product, Traffic


@dataclass(slots=True)
class Canvas:
    """A batch of square images on its way through a network; `found` is what has run so far."""

    batch: int
    side: int
    channels: int
    format: str
    is_fused: bool
    """Whether norms and activations are the end of a convolution's kernel, and sums as well."""
    found: Pass = field(default_factory=Pass)

    @property
    def size_bytes(self) -> float:
        """Of what the last layer wrote."""
        return self.pixels * self.channels * ACTIVATION_BYTES[self.format]

    @property
    def pixels(self) -> int:
        """Of the whole batch."""
        return self.batch * self.side**2

    def convolve(
        self,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        groups: int = 1,
        *,
        padded: bool = True,
    ) -> None:
        """A convolution with its norm and its activation."""
        self.filter(channels, kernel, stride, groups, padded=padded)
        self._finish(channels)

    def filter(
        self,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        groups: int = 1,
        *,
        padded: bool = True,
    ) -> None:
        """A convolution; padded, only its strides shrink the image."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.side = -(-(self.side - (0 if padded else rows - 1)) // stride)
        self._filter(self.channels, channels, (rows, columns), stride, groups)
        self.channels = channels

    def depthwise(self, kernel: int, stride: int = 1) -> None:
        """A convolution of each channel by itself, with its norm and its activation."""
        self.convolve(self.channels, kernel, stride, groups=self.channels)

    def join(self, *branches: Callable[[Canvas], None]) -> None:
        """Several ways from the same pixels, whose channels lie side by side behind them: engines
        write them where they belong, frameworks copy."""
        side, channels, joined = self.side, self.channels, 0
        for branch in branches:
            self.side, self.channels = side, channels
            branch(self)
            joined += self.channels
        self.channels = 0
        self.lay_beside(joined)

    def lay_beside(self, channels: int) -> None:
        """Channels of the same pixels that were made before."""
        self.channels += channels
        if not self.is_fused:
            self.found.add(Traffic(self.size_bytes, self.size_bytes, Flow.COPY))

    def project(self, before: int, stride: int = 1) -> None:
        """A shortcut's 1 x 1 convolution, from channels before a block to those of now."""
        self._filter(before, self.channels, (1, 1), stride, 1)
        self._finish(self.channels)

    def _filter(
        self, before: int, after: int, kernel: tuple[int, int], stride: int, groups: int
    ) -> None:
        side, format = self.side, self.format
        self.found.add(
            Convolution(self.batch, before, after, side, side, kernel, stride, groups, format)
        )

    def _finish(self, channels: int) -> None:
        """A norm and an activation that are no part of the convolution."""
        if not self.is_fused:
            moved = self.pixels * channels * ACTIVATION_BYTES[self.format]
            self.found.add(Traffic(moved, moved, Flow.ELEMENTWISE), 2)

    def normalise(self) -> None:
        """A norm by rows or groups, with the activation behind it where that is joined."""
        moved = self.size_bytes
        self.found.add(Traffic(moved, moved, Flow.NORMALISATION, rows=self.pixels))

    def add_shortcut(self) -> None:
        """The sum with what a block began with."""
        if self.is_fused:
            self.found.read_size_bytes += self.size_bytes
        else:
            self.found.add(Traffic(2 * self.size_bytes, self.size_bytes, Flow.ELEMENTWISE))

    def pool(self, stride: int = 2, window: int = 0) -> None:
        """One of each `stride` x `stride` pixels; of windows that are not padded, where stated."""
        before = self.size_bytes
        self.side = -(-(self.side - max(0, window - 1)) // stride)
        self.found.add(Traffic(before, self.size_bytes, Flow.REDUCTION))

    def pool_to(self, side: int) -> None:
        """As many pixels whatever the image's size was."""
        before, self.side = self.size_bytes, side
        self.found.add(Traffic(before, self.size_bytes, Flow.REDUCTION))

    def squeeze(self, width: int) -> None:
        """Channels weighed by two products of their means (Hu et al. 2018)."""
        means = self.batch * self.channels * ACTIVATION_BYTES[self.format]
        self.found.add(Traffic(self.size_bytes, means, Flow.REDUCTION))
        for n, k in ((width, self.channels), (self.channels, width)):
            self.found.add(Product(self.batch, n, k, format=self._half))
        self.found.add(Traffic(self.size_bytes, self.size_bytes, Flow.ELEMENTWISE))

    def classify(self, *widths: int, pooled: bool = True) -> Pass:
        """Products at the end, of the mean of all pixels or of all pixels; everything that ran."""
        inner = self.channels * (1 if pooled else self.side**2)
        if pooled:
            self.found.add(Traffic(self.size_bytes, self.size_bytes / self.side**2, Flow.REDUCTION))
        for width in widths:
            self.found.add(Product(self.batch, width, inner, format=self._half))
            inner = width
        return self.found

    @property
    def _half(self) -> str:
        """Format of products that are too small for any other."""
        return self.format if self.format in WIDE else "fp16"


Network: TypeAlias = Callable[[Canvas], Pass]
"""What runs of a network over a canvas."""
