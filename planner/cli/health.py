"""Looks this machine over for `infopt doctor`; a check that fails hides no other."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from planner.errors import InfoptError
from planner.profiling.store import Store, default_path
from planner.report.health import Finding, Level
from planner.runtime.fingerprint import read_cpu
from planner.units import format_size

LOW_MEMORY_BYTES = 2 * 2**30
LOW_DISK_BYTES = 2 * 2**30
_PROBE_LIMIT_S = 60.0
_LIBRARIES = ("onnx", "onnxslim", "ortools", "numpy", "scipy", "networkx", "pydantic", "rich")
_SERVING = ("starlette", "uvicorn", "prometheus-client")


def examine() -> tuple[Finding, ...]:
    """Every finding, in the order in which a person would look."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _libraries,
        _providers,
        _processor,
        _cores,
        _memory,
        _disk,
        _store,
        _serving,
        _gpu,
    )
    return tuple(_guarded(check) for check in checks)


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (OSError, InfoptError, subprocess.SubprocessError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(check.__name__.strip("_"), Level.WARNING, f"could not be checked: {text}")


def _python() -> Finding:
    text = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    return Finding("python", Level.OK, text)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libraries() -> Finding:
    found = {name: _version(name) for name in _LIBRARIES}
    missing = [name for name, version in found.items() if version is None]
    text = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if missing:
        return Finding(
            "libraries", Level.FAILED, f"missing: {', '.join(missing)}", "pip install infopt"
        )
    return Finding("libraries", Level.OK, text)


def _providers() -> Finding:
    """In a process of its own: a broken installation of ONNX Runtime may abort the interpreter."""
    code = (
        "import json, onnxruntime as o;"
        "print(json.dumps([o.__version__, o.get_available_providers()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=_PROBE_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(
            "onnxruntime", Level.FAILED, f"cannot be imported: {reason}", "reinstall onnxruntime"
        )
    version, providers = json.loads(done.stdout.splitlines()[-1])
    return Finding("onnxruntime", Level.OK, f"{version}, providers {', '.join(providers)}")


def _processor() -> Finding:
    cpu = read_cpu()
    text = f"{cpu.model or platform.machine()}: {', '.join(cpu.flags) or 'no vector extension'}"
    has_int8 = any("vnni" in flag or flag in ("amx_int8", "i8mm", "asimddp") for flag in cpu.flags)
    if has_int8:
        return Finding("processor", Level.OK, text)
    return Finding("processor", Level.WARNING, text, "no int8 dot products: int8 may not be faster")


def _cores() -> Finding:
    cpu = read_cpu()
    logical = psutil.cpu_count() or cpu.physical_cores
    text = f"{cpu.usable_cores} usable of {logical} logical, {cpu.physical_cores} physical"
    busy = psutil.getloadavg()[0] / max(1, cpu.usable_cores)
    if busy > 0.5:
        hint = "other work is running: measurements will be wide; wait or stop it"
        return Finding("cores", Level.WARNING, f"{text}; load {busy:.0%}", hint)
    return Finding("cores", Level.OK, text)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{format_size(memory.available)} free of {format_size(memory.total)}"
    if memory.available < LOW_MEMORY_BYTES:
        hint = "planning needs twice the model's size and 500 MB"
        return Finding("memory", Level.WARNING, text, hint)
    return Finding("memory", Level.OK, text)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{format_size(free)} free here"
    if free < LOW_DISK_BYTES:
        return Finding("disk", Level.WARNING, text, "an engine is about as large as its model")
    return Finding("disk", Level.OK, text)


def _store() -> Finding:
    try:
        store = Store()
        count = sum(store.counts().values())
        store.close()
    except InfoptError as error:
        hint = error.fix or "point INFOPT_CACHE to a writable folder"
        return Finding("store", Level.FAILED, f"{default_path()}: {error.what}", hint)
    return Finding("store", Level.OK, f"{default_path()}: {count} measurements")


def _serving() -> Finding:
    missing = [name for name in _SERVING if _version(name) is None]
    if missing:
        hint = "pip install 'infopt[serve]'"
        return Finding("serving", Level.WARNING, f"missing: {', '.join(missing)}", hint)
    return Finding("serving", Level.OK, ", ".join(f"{name} {_version(name)}" for name in _SERVING))


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("gpu", Level.OK, "none: plans are made for the CPU")
    query = "--query-gpu=name,memory.total,driver_version,compute_cap"
    done = subprocess.run(
        [tool, query, "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=_PROBE_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        return Finding("gpu", Level.WARNING, "nvidia-smi fails", "check the NVIDIA driver")
    return Finding("gpu", Level.OK, "; ".join(done.stdout.strip().splitlines()))
