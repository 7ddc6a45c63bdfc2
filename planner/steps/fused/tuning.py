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
from dataclasses import dataclass, replace
from pathlib import Path

from planner.cost.rates import capability
from planner.errors import EnvironmentMismatchError, InfoptError, UsageError
from planner.fuse.build import Draft
from planner.fuse.live import Live
from planner.fuse.loops import with_sound_loops
from planner.fuse.saved import as_record, draft_of
from planner.fuse.tune import tune, variants
from planner.kernels.compile import Compile, Compilers, version
from planner.kernels.estimate import Rates
from planner.profiling.store import default_path
from planner.progress import Reporter
from planner.runtime.fused.driver import DRIVERS_OWN, Driver
from planner.spec.profile import DeviceProfile
from planner.spec.writing import write_atomically

TUNER_VERSION = 7
"""Raise it when tuning changes, so that what an older one found is not taken for its best."""
BUDGET_S = 20.0
"""Of measuring, per part of the model; compiling its candidates comes on top."""
_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Tuned:
    """What measuring made of a draft."""

    plan: Draft
    device_us: float
    """Of its graph."""
    shared_percent: int
    """Of a multiprocessor's memory: what its kernels asked for as shared memory meanwhile."""


def tuned_here(
    drafts: Mapping[str, Draft], profile: DeviceProfile, reporter: Reporter
) -> dict[str, Tuned]:
    """The drafts that this machine's GPU could tune, where it is of the profile; else none."""
    driver = _driver_of(profile)
    if driver is None:
        return {}
    reporter.stage("measure")
    kept = Kept(_folder(), driver)
    found: dict[str, Tuned] = {}
    compilers = Compilers(driver.architecture, os.cpu_count() or 1)
    try:
        for number, (name, draft) in enumerate(drafts.items()):
            reporter.progress(number + 1, len(drafts), name)
            try:
                found[name] = kept.get(draft) or kept.put(draft, _tuned(draft, driver, compilers))
            except InfoptError as error:
                reporter.note(f"{name} is not tuned: {error.what}")
    finally:
        compilers.close()
    return found


def still_compiled(
    tuned: Mapping[str, Tuned], compile_each: Compile | None, rates: Rates, reporter: Reporter
) -> dict[str, Tuned]:
    """What was tuned, as far as its kernels compile now: what was kept may be of another day, whose
    generator wrote other kernels. They may spill: they were faster all the same.

    Args:
        compile_each: what `deploy` compiles with; None: nothing is asked.
    """
    if compile_each is None:
        return dict(tuned)
    found = {}
    for name, one in tuned.items():
        items = one.plan.kernels
        try:
            missing = {item.name for item in items} - compile_each(items).keys()
            if not missing:
                plan = with_sound_loops(one.plan, compile_each, rates.units)
                found[name] = replace(one, plan=plan)
                continue
        except EnvironmentMismatchError as error:
            reporter.note(f"tuned kernels are not compiled: {error.what}")
            return dict(tuned)
        reporter.note(f"{name} is not as tuned: {len(missing)} of its kernels do not compile")
    return found


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

    def get(self, draft: Draft) -> Tuned | None:
        """The tuned draft; None where it was not tuned before, or its file is damaged."""
        try:
            held = json.loads(self._path(draft).read_text(encoding="utf-8"))
            percent = int(held["shared_percent"])
            if not DRIVERS_OWN <= percent <= 100:
                return None
            plan = draft_of(held, draft.program, draft.numbers)
            return Tuned(plan, float(held["device_us"]), percent)
        except (OSError, ValueError, TypeError, KeyError, InfoptError):
            return None

    def put(self, draft: Draft, tuned: Tuned) -> Tuned:
        """Keeps what a draft became; whoever reads meanwhile sees a whole file or none."""
        path = self._path(draft)
        facts = {"device_us": tuned.device_us, "shared_percent": tuned.shared_percent}
        content = json.dumps({**as_record(tuned.plan), **facts}).encode()
        with suppress(OSError, UsageError):  # a full cache costs the next plan time, not this one
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return tuned

    def _path(self, draft: Draft) -> Path:
        """Equal kernels on equal devices in the same order are the same question."""
        asked = (f"{item.name} {item.parameters}" for item in draft.kernels)
        told = "\n".join((self._device, *asked))
        return self._folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.json"


def _tuned(draft: Draft, driver: Driver, compilers: Compilers) -> Tuned:
    compilers(variants(draft, limit=_CANDIDATES))
    live = Live(driver, draft)
    try:
        made = tune(draft, live, compilers, budget_s=BUDGET_S, limit=_CANDIDATES)
    finally:
        live.close()
    return Tuned(made.plan, made.best_us, made.shared_percent)


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
