"""What makes measurements comparable: CPU, usable cores, vector extensions, ONNX Runtime, platform.

Neither onnx nor onnxruntime is loaded: the version is read from the installed package's source.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from planner import __version__
from planner.errors import EnvironmentMismatchError
from planner.runtime.devices import gpu_title
from planner.spec.plan import Environment

VECTOR_FLAGS = (
    *("sse4_1", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "i8mm", "bf16", "fphp", "asimdhp", "sve", "sve2", "sme"),
)
"""Extensions for which ONNX Runtime's matrix kernels have their own code, x86 and Arm."""
_SHOWN = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
_COMPARED = ("device", "onnxruntime", "platform")


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as this process may use it."""

    model: str
    identity: str
    """Family, model and stepping: cloud machines share one marketing name."""
    physical_cores: int
    usable_cores: int
    """Logical cores after CPU affinity and the control group's quota."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One property in which two environments are not comparable."""

    field: str
    engine: str
    here: str

    @property
    def text(self) -> str:
        """`onnxruntime: engine has 1.30.0, here is 1.31.1`."""
        return f"{self.field}: engine has {self.engine}, here is {self.here}"


def this_environment() -> Environment:
    """The environment of this process; its digest covers all that changes a measured latency."""
    cpu = read_cpu()
    facts = {
        "cpu": cpu.model,
        "identity": cpu.identity,
        "physical_cores": cpu.physical_cores,
        "usable_cores": cpu.usable_cores,
        "flags": cpu.flags,
        "onnxruntime": onnxruntime_version(),
        "platform": _platform(),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    shown = [flag for flag in _SHOWN if flag in cpu.flags]
    return Environment(
        infopt=__version__,
        onnxruntime=onnxruntime_version(),
        device=", ".join((cpu.model, f"{cpu.usable_cores} cores", " ".join(shown) or "scalar")),
        device_digest=hashlib.sha256(canonical.encode()).hexdigest(),
        platform=_platform(),
    )


def gpu_environment() -> Environment:
    """The same of this machine's first GPU: it, its driver and the host decide what is measured.

    Raises:
        EnvironmentMismatchError: there is none.
    """
    title = gpu_title()
    if title is None:
        raise EnvironmentMismatchError("there is no NVIDIA GPU here")
    host = this_environment()
    digest = hashlib.sha256(f"{title}|{host.device_digest}".encode()).hexdigest()
    return host.model_copy(update={"device": title, "device_digest": digest})


def fingerprint_differences(engine: Environment, here: Environment) -> tuple[Difference, ...]:
    """Why measurements of `engine` do not hold `here`; empty where they do.

    The infopt version is not compared: the manifest's own version says whether it can be read.
    """
    if engine.device_digest == here.device_digest:
        return ()
    found = tuple(
        Difference(field, getattr(engine, field), getattr(here, field))
        for field in _COMPARED
        if getattr(engine, field) != getattr(here, field)
    )
    digests = Difference("device_digest", engine.device_digest[:12], here.device_digest[:12])
    return found or (digests,)


def read_cpu() -> Cpu:
    """The processor, from /proc/cpuinfo where there is one."""
    fields = _cpuinfo(Path("/proc/cpuinfo"))
    model = fields.get("model name") or platform.processor() or platform.machine()
    words = fields.get("flags", fields.get("Features", "")).split()
    logical = psutil.cpu_count() or 1
    return Cpu(
        model=" ".join(model.split()),
        identity="/".join(
            fields.get(key, "-") for key in ("vendor_id", "cpu family", "model", "stepping")
        ),
        physical_cores=psutil.cpu_count(logical=False) or logical,
        usable_cores=usable_cores(),
        flags=tuple(flag for flag in VECTOR_FLAGS if flag in words),
    )


def has_vnni(cpu: Cpu) -> bool:
    """Whether products of 8-bit numbers accumulate without saturating.

    Arm's and AMX's do; x86 without VNNI adds two of them in 16 bits first (VPMADDUBSW).
    """
    exact = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve"}
    return not exact.isdisjoint(cpu.flags)


def convolution_block(cpu: Cpu) -> int:
    """Channels that ONNX Runtime's convolutions compute together: `MlasNchwcGetBlockSize`."""
    return 16 if {"avx512f", "asimd"} & set(cpu.flags) else 8


def usable_cores() -> int:
    """Logical cores this process may use: affinity, cut by the control group's quota; >= 1."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count() or 1
    quota = cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cgroup_quota(membership: Path, root: Path) -> float | None:
    """CPU cores granted by the control group or one of its parents; None where unlimited."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    found = [quota for line in lines for quota in _quotas(line, root)]
    return min(found, default=None)


def _quotas(line: str, root: Path) -> list[float]:
    _, controllers, group = line.split(":", 2)
    base = root if not controllers else root / "cpu"
    if controllers and "cpu" not in controllers.split(","):
        return []
    here = base / group.lstrip("/")
    folders = [folder for folder in (here, *here.parents) if folder.is_relative_to(base)]
    read = _quota_v2 if not controllers else _quota_v1
    return [quota for folder in folders if (quota := read(folder)) is not None]


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None


def onnxruntime_version() -> str:
    """Version of the onnxruntime that an import would find, without importing it.

    Raises:
        EnvironmentMismatchError: not installed.
    """
    loaded = sys.modules.get("onnxruntime")
    if loaded is not None:
        return str(loaded.__version__)
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise EnvironmentMismatchError("onnxruntime is not installed", fix="pip install infopt")
    source = Path(spec.origin).read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if match is not None:
        return match.group(1)
    return str(importlib.import_module("onnxruntime").__version__)


def _platform() -> str:
    return f"{platform.system()}-{platform.machine()}"


def _cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's fields; empty where the system has no such file."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
