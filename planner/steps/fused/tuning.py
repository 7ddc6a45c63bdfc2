"""Configurations and edges by measuring, where the device that is planned for is here.

Elsewhere the generator's own choice stands: a model of a stage ranks tile sizes less well than it
prices groups, so that what was not measured is not second-guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from planner.cost.rates import capability
from planner.errors import EnvironmentMismatchError, InfoptError, UsageError
from planner.fuse.build import Draft
from planner.fuse.live import Live
from planner.fuse.saved import as_record, draft_of
from planner.fuse.tune import tune, variants
from planner.kernels.compile import Compilers, version
from planner.profiling.store import default_path
from planner.progress import Reporter
from planner.runtime.fused.driver import Driver
from planner.spec.profile import DeviceProfile
from planner.spec.writing import write_atomically

TUNER_VERSION = 6
"""Raise it when tuning changes, so that what an older one found is not taken for its best."""
BUDGET_S = 20.0
"""Of measuring, per part of the model; compiling its candidates comes on top."""
_CANDIDATES = 6
Timed = tuple[Draft, float]
"""A tuned draft, and the microseconds of its graph."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Drafts as tuned, and what they take on the device."""

    drafts: Mapping[str, Draft]
    device_us: Mapping[str, float]
    """Bucket -> device time of its graph; empty where the device is not here."""


def tuned_here(drafts: Mapping[str, Draft], profile: DeviceProfile, reporter: Reporter) -> Measured:
    """The drafts tuned on this machine's GPU where it is of the profile; else as they are."""
    driver = _driver_of(profile)
    if driver is None:
        return Measured(drafts, {})
    reporter.stage("measure")
    kept = Kept(_folder(), driver)
    found: dict[str, Draft] = {}
    device_us: dict[str, float] = {}
    compilers = Compilers(driver.architecture, os.cpu_count() or 1)
    try:
        for number, (name, draft) in enumerate(drafts.items()):
            reporter.progress(number + 1, len(drafts), name)
            try:
                found[name], device_us[name] = kept.get(draft) or kept.put(
                    draft, _tuned(draft, driver, compilers)
                )
            except InfoptError as error:
                reporter.note(f"{name} is not tuned: {error.what}")
                found[name] = draft
    finally:
        compilers.close()
    return Measured(found, device_us)


def forget_tuned() -> int:
    """Forgets all that was tuned here; how many sets of kernels."""
    files = list(_folder().glob("*.json"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _folder() -> Path:
    return default_path().parent / "tuned"


class Kept:
    """What was tuned before on such a device: measured once per set of kernels."""

    def __init__(self, folder: Path, driver: Driver) -> None:
        self._folder = folder
        self._device = f"{TUNER_VERSION} {driver.name} {driver.version} triton {version()}"

    def get(self, draft: Draft) -> Timed | None:
        """The tuned draft; None where it was not tuned before, or its file is damaged."""
        try:
            held = json.loads(self._path(draft).read_text(encoding="utf-8"))
            return draft_of(held, draft.program, draft.numbers), float(held["device_us"])
        except (OSError, ValueError, TypeError, KeyError, InfoptError):
            return None

    def put(self, draft: Draft, tuned: Timed) -> Timed:
        """Keeps what a draft became; whoever reads meanwhile sees a whole file or none."""
        made, device_us = tuned
        path = self._path(draft)
        content = json.dumps({**as_record(made), "device_us": device_us}).encode()
        with suppress(OSError, UsageError):  # a full cache costs the next plan time, not this one
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return tuned

    def _path(self, draft: Draft) -> Path:
        """Equal kernels on equal devices in the same order are the same question."""
        asked = (f"{item.name} {item.parameters}" for item in draft.kernels)
        told = "\n".join((self._device, *asked))
        return self._folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def _tuned(draft: Draft, driver: Driver, compilers: Compilers) -> Timed:
    compilers(variants(draft, limit=_CANDIDATES))
    live = Live(driver, draft)
    try:
        made = tune(draft, live, compilers, budget_s=BUDGET_S, limit=_CANDIDATES)
    finally:
        live.close()
    return made.plan, made.best_us


def _driver_of(profile: DeviceProfile) -> Driver | None:
    """The driver, where its device has the capability and the multiprocessors of the profile."""
    try:
        driver = Driver()
    except EnvironmentMismatchError:
        return None
    kinds = driver.api.CUdevice_attribute
    units = driver.attribute(kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
    is_same = driver.architecture == capability(profile) and units == profile.units
    return driver if is_same else None
