"""What is asked for, against what can be done here: nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from planner.compress.base import NATIVE
from planner.compress.methods import METHODS
from planner.errors import EnvironmentMismatchError, UsageError
from planner.spec.constraints import Constraints
from planner.spec.devices import describe, is_file_name
from planner.spec.devices import names as shipped_names
from planner.spec.formats import Format
from planner.spec.problems import nearest
from planner.spec.target import Target

CUDA = "cuda"
"""Name of this machine's own GPU."""
LOCAL = ("auto", "cpu")
"""Names of the one device that plans are measured on: this machine's CPU."""
_HERE = "plan for this machine's CPU (--target cpu), or run infopt where that device is"


def refuse_absent(constraints: Constraints) -> None:
    """Refuses what this machine's CPU cannot stand in for.

    Raises:
        UsageError: a device nobody knows, or a plan without weights.
        EnvironmentMismatchError: a known device, GPUs or memory that are not measured here.
    """
    target = constraints.target
    if target.device not in LOCAL:
        raise _absent(target.device)
    _refuse_gpus(target)
    if constraints.no_weights:
        raise UsageError(
            "operators are measured with their weights, so that weights must be there",
            where="no_weights",
            fix="put the external data beside the model, or see what is there with --dry-run",
        )


def is_away(constraints: Constraints) -> bool:
    """Whether a device profile, and not this machine, is the target.

    Raises:
        UsageError: a device nobody knows.
    """
    if constraints.target.device in (*LOCAL, CUDA):
        return False
    refuse_unknown_device(constraints.target.device)
    return True


def refuse_unknown_device(device: str) -> None:
    """Refuses a device that no profile describes; what is not here is no error.

    Raises:
        UsageError: with the nearest name.
    """
    error = None if device in LOCAL else _absent(device)
    if isinstance(error, UsageError):
        raise error


def _absent(device: str) -> UsageError | EnvironmentMismatchError:
    if is_file_name(device):
        describe(device)
        return _unmeasurable(device)
    known = (CUDA, *shipped_names())
    names = [name.strip() for name in device.split(",")]
    if len(names) > 1 and set(names) <= {*LOCAL, *known}:
        return UsageError(
            f"{device!r} are several kinds of device, and a plan is for one",
            where="target.device",
            fix=f"one plan for each: --target {names[0]}",
        )
    if device not in known:
        return UsageError(
            f"no device is called {device!r}",
            where="target.device",
            fix=nearest(device, (*LOCAL, *known)),
        )
    return _unmeasurable(device)


def _unmeasurable(device: str) -> EnvironmentMismatchError:
    return EnvironmentMismatchError(
        f"operators cannot be measured on {device!r} here", where="target.device", fix=_HERE
    )


def _refuse_gpus(target: Target) -> None:
    if target.gpus is not None:
        raise EnvironmentMismatchError(
            "this machine's CPU is the target, and it has no GPUs",
            where="target.gpus",
            fix="name the GPUs' profile with --target; or, for processes here, drop target.gpus and"
            f" run infopt spread PLAN --tensor {target.gpus.maximum}",
        )
    if target.offload:
        raise EnvironmentMismatchError(
            "offload moves weights off a GPU, and the target is this machine's CPU",
            where="target.offload",
            fix="drop target.offload",
        )


def unmet_wishes(constraints: Constraints, operators: Sequence[str]) -> tuple[str, ...]:
    """Formats that the CPU lacks and pins that match nothing: one file serves many models and
    targets, so these are no errors, but they are told."""
    wanted, pins = constraints.compression.formats or (), constraints.compression.pin
    made = {NATIVE, Format.INT8, *(method.format for method in METHODS)}
    absent = [str(form) for form in (*wanted, *pins.values()) if form not in made]
    found = []
    if absent:
        names = ", ".join(dict.fromkeys(absent))
        found.append(f"not among the formats of the CPU, so nothing gets it: {names}")
    return (*found, *unmet_pins(constraints, operators))


def unmet_pins(constraints: Constraints, operators: Sequence[str]) -> tuple[str, ...]:
    """Pins that match nothing."""
    return tuple(
        f"the pin {pattern!r} matches no operator{_example(operators)}"
        for pattern in constraints.compression.pin
        if not any(fnmatchcase(name, pattern) for name in operators)
    )


def _example(operators: Sequence[str]) -> str:
    return f" (one is called {operators[0]!r})" if operators else ""
