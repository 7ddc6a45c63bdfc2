"""How an ONNX part is run by ONNX Runtime: shared by plans and engine manifests."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from planner.spec.base import Document


class GraphLevel(StrEnum):
    """ONNX Runtime's graph optimisation levels."""

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"
    """Everything, including the blocked NCHWc layout."""


class SessionSettings(Document):
    """Session options of one ONNX part; the same values always make the same session."""

    provider: str = "cpu"
    """Execution provider: `cpu` or `cuda`."""
    intra_op_threads: int = Field(default=0, ge=0)
    """Threads inside one operator; 0 lets ONNX Runtime choose (one per core)."""
    spinning: bool = True
    """Whether idle pool threads spin (lowest latency) or sleep (frees the cores)."""
    graph_level: GraphLevel = GraphLevel.ALL
    cuda_graph: bool = False
    """With `cuda`: the whole model as one CUDA graph; needs fixed shapes."""
    extra: dict[str, str] = Field(default_factory=dict)
    """Further `session.*` configuration entries of ONNX Runtime."""

    @property
    def name(self) -> str:
        """Short, unique label, e.g. `cpu-t2-spin-all`."""
        spin = "spin" if self.spinning else "sleep"
        graph = "-graph" if self.cuda_graph else ""
        return f"{self.provider}{graph}-t{self.intra_op_threads}-{spin}-{self.graph_level.value}"

    @property
    def pool(self) -> str:
        """The thread pool's name: threads, and whether idle ones sleep."""
        return f"{self.intra_op_threads}{'' if self.spinning else ' sleeping'}"
