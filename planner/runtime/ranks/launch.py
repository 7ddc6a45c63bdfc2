"""Processes for ranks: by themselves, or by the launcher of an MPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from planner.errors import EnvironmentMismatchError
from planner.runtime.ranks.fabric import MPI, NCCL


def launch(
    module: str, library: str, arguments: Sequence[str], world: int, log: Path
) -> list[subprocess.Popen[bytes]]:
    """Starts `world` ranks, whose words go to `log`; each process leads a group of its own.

    Args:
        module: what they run.
        arguments: of each; where no MPI says which rank it is, its number comes behind them.

    Raises:
        EnvironmentMismatchError: no launcher of an MPI, or fewer visible GPUs than ranks.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    if library == MPI:
        commands = [([_mpiexec(), "-n", str(world), *command], _environment())]
    else:
        gpus = _gpus(world) if library == NCCL else [None] * world
        commands = [([*command, str(rank)], _environment(gpus[rank])) for rank in range(world)]
    with log.open("wb") as words:
        return [
            subprocess.Popen(
                one, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment,
                start_new_session=True,
            )
            for one, environment in commands
        ]  # fmt: skip


def _mpiexec() -> str:
    """The launcher beside this interpreter, where mpi4py's own MPI lies, or the system's."""
    beside = Path(sys.prefix, "bin", "mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise EnvironmentMismatchError(
            "mpi4py is installed, but no mpiexec", fix='pip install "infopt[mpi]"'
        )
    return found


def _gpus(world: int) -> list[str | None]:
    """One for each rank, as CUDA_VISIBLE_DEVICES calls them."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = [name for name in seen.split(",") if name] or [str(gpu) for gpu in range(world)]
    if len(visible) < world:
        raise EnvironmentMismatchError(
            f"{world} ranks need a GPU each, and CUDA_VISIBLE_DEVICES shows {len(visible)}",
            fix="let it name as many, or unset it",
        )
    return [*visible[:world]]


def _environment(gpu: str | None = None) -> dict[str, str]:
    """This package for the ranks; their talk stays on this machine; each sees its own GPU only."""
    paths = [path for path in sys.path if path]
    defaults = {
        **{"GLOO_SOCKET_IFNAME": "lo", "FI_PROVIDER": "shm", "HYDRA_IFACE": "lo"},
        **{"NCCL_SOCKET_IFNAME": "lo", "NCCL_GRAPH_REGISTER": "0"},
    }
    found = {**defaults, **os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    return found
