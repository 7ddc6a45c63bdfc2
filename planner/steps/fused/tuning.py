"""Configurations and edges by measuring, where the device that is planned for is here.

Elsewhere the generator's own choice stands: a model of a stage ranks tile sizes less well than it
prices groups, so that what was not measured is not second-guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from planner.cost.rates import capability
from planner.errors import EnvironmentMismatchError, InfoptError
from planner.fuse.build import Draft
from planner.fuse.live import Live
from planner.fuse.tune import tune, variants
from planner.kernels.compile import Compilers
from planner.progress import Reporter
from planner.runtime.fused.driver import Driver
from planner.spec.profile import DeviceProfile

BUDGET_S = 20.0
"""Of measuring, per part of the model; compiling its candidates comes on top."""
_CANDIDATES = 6


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
    found: dict[str, Draft] = {}
    device_us: dict[str, float] = {}
    compilers = Compilers(driver.architecture, os.cpu_count() or 1)
    try:
        for number, (name, draft) in enumerate(drafts.items()):
            reporter.progress(number + 1, len(drafts), name)
            try:
                found[name], device_us[name] = _tuned(draft, driver, compilers)
            except InfoptError as error:
                reporter.note(f"{name} is not tuned: {error.what}")
                found[name] = draft
    finally:
        compilers.close()
    return Measured(found, device_us)


def _tuned(draft: Draft, driver: Driver, compilers: Compilers) -> tuple[Draft, float]:
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
