"""Which cubins of an engine run on a device."""

from __future__ import annotations

from planner.errors import EnvironmentMismatchError
from planner.runtime.fused.manifest import Binary, FusedManifest


def choose(manifest: FusedManifest, architecture: int) -> dict[str, Binary]:
    """The binary of every kernel for this device; of loops only where there is one for it.

    A cubin runs on its own architecture and on later ones of the same major version. Of a loop only
    the one built for what else runs here counts: where that was left out, it was for a reason.

    Raises:
        EnvironmentMismatchError: the engine was not built for this device.
    """
    fitting_ones = [
        item
        for item in manifest.binaries
        if item.architecture // 10 == architecture // 10 and item.architecture <= architecture
    ]
    closest = manifest.closest(architecture)
    loops = manifest.loop_kernels
    best: dict[str, Binary] = {}
    for item in sorted(fitting_ones, key=lambda item: item.architecture):
        if item.kernel not in loops or item.architecture == closest:
            best[item.kernel] = item
    if manifest.needed_kernels - set(best):
        built = sorted({item.architecture for item in manifest.binaries})
        raise EnvironmentMismatchError(
            f"this GPU is sm_{architecture}, the engine holds kernels for "
            + ", ".join(f"sm_{value}" for value in built),
            fix="build the engine for this GPU",
        )
    return best
