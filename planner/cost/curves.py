"""What was learnt, ready to price with, and whose knowledge stands in where a device has none.

A curve of the device itself is interpolation between its measurements. Without one, the curve of
the closest format on the device serves, then the average over devices: parameters are relative to
each device's rates, so they carry over, with the interval that leaving devices out has shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path

from planner import resources
from planner.cost.carried import DENSE, chips_with, held, mean_start_us
from planner.cost.clocks import start_range
from planner.cost.family import FAMILIES, PLAIN
from planner.cost.fitted import Bands, Fitted, fitted, open_ended
from planner.cost.pace import slowness_of
from planner.spec.fits import Curve, FitFile, read_fits
from planner.spec.profile import DeviceProfile, read_profile

ANY, LINKS, MEMORY = "any", "links", "memory"
"""Fit files that are of no single device."""
ALIKE, KIN = "alike/", "kin/"
"""Before a key: how far off predictions are that know the source's kernels from other devices; and
that know another format only."""
_LENT = ("prefill/", "decode/")
"""Families whose curves of all devices together serve where there is none closer."""
_SHARED = (ANY, LINKS, MEMORY)
_KIN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "fp16": (("fp16", "bf16"), ("tf32",)),
    "bf16": (("bf16", "fp16"), ("tf32",)),
    "tf32": (("tf32",), ("bf16", "fp16")),
    "int8": (("int8",), ("fp8",), ("bf16", "fp16")),
    "fp8": (("fp8",), ("int8",), ("bf16", "fp16")),
    "int8_wo": (("int8_wo",), ("int4_wo",), ("bf16", "fp16")),
    "int4_wo": (("int4_wo",), ("int8_wo",), ("bf16", "fp16")),
    "2:4": (("2:4",), ("bf16", "fp16")),
    "2:4_int8": (("2:4_int8",), ("2:4",), ("int8",)),
}
"""Format -> formats whose parameters serve, best first; those of one group are worth the same."""
FLOW_KIN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "rms_normalisation": (("normalisation",),),
    "normalisation": (("rms_normalisation",),),
}
"""Flow -> flows that serve before an elementwise one does."""
_FAMILY_KIN: Mapping[str, str] = {
    "batched": "product",
    "convolution": "product",
    "experts": "product",
}
"""Family -> the family whose parameters its model takes."""
_SEVERAL = frozenset({"experts"})
"""Families whose kernels are several of the other's: its remainders and its intervals are not
theirs."""
_OF_LIBRARIES = frozenset({"product", "batched", "convolution"})
"""Families whose kernels sources take from the same few libraries."""
_GUESS_BANDS: Bands = ((float("inf"), 0.5, 2.0),)
"""Of a family nobody measured: a factor of two either way."""


class Library:
    """All curves by device."""

    def __init__(self, files: Sequence[FitFile]) -> None:
        self._files = {file.device: file for file in files}

    def find(self, device: DeviceProfile, key: str, like: str | None = None) -> Fitted:
        """The best curve for a key (`family/format`) on a device, as `_closest` has it; where it is
        of a source that nobody knows, with the starts that its kernels may have; and of attention,
        which libraries write themselves, with the interval of another device."""
        found = replace(self._closest(device, key, like), slowness=_slowness(device, key))
        if like is None or any(is_from(curve, like) for curve in self._measured):
            return found
        found = replace(found, starts_us=self.starts_us)
        return replace(found, bands=self._elsewhere(key, "")) if _is_attention(key) else found

    @cached_property
    def starts_us(self) -> tuple[float, float] | None:
        """Between which times kernels of a source that nobody knows start."""
        return start_range(self._measured)

    @cached_property
    def _measured(self) -> list[Curve]:
        """Curves of single devices."""
        return [c for file in self._files.values() if file.units for c in file.curves.values()]

    def _closest(self, device: DeviceProfile, key: str, like: str | None) -> Fitted:
        """The best curve.

        First the closest formats, and for these: the device itself, other devices as the same
        source measured them, the same chip under another name, the same architecture, devices in
        general.

        Args:
            like: source of measurements to be predicted: its kernels and its ways of measuring are
                known from what it published of other devices.
        """
        family, _, format = key.partition("/")
        families = [family, _FAMILY_KIN[family]] if family in _FAMILY_KIN else [family]
        default: tuple[tuple[str, ...], ...] = ((format,),)
        if family == "traffic":
            default = ((format,), *FLOW_KIN.get(format, ()), ("elementwise",))
        groups = [
            [f"{name}/{form}" for name in families for form in formats]
            for formats in _KIN.get(format, default)
        ]
        own = self._own(device, groups[0], like)
        if own is not None and own[0].startswith(f"{family}/"):
            return self._of_its_own(replace(fitted(own[1]), is_own=own[0] == key), key)
        for names in groups if like else ():
            alike = self._alike(device, names, like)
            if alike:
                if not _are_of_one_kind(key, names):
                    return self._carried(self._of_own_kernels(device, names, like, alike), key)
                reach = ALIKE if names is groups[0] else KIN
                has_lattice = _may_lift(key) and (reach == ALIKE or _is_attention(key))
                first, *rest = (fitted(curve, has_lattice=has_lattice) for curve in alike)
                rest += self._of_other_sources(device, names, like, first)
                known = replace(first, also=tuple(rest), reach=reach)
                if reach == KIN and not _is_plain(key):
                    known = self._started(known, device, family, like)
                return self._carried(known, key)
        for names in groups:
            reach = "" if names is groups[0] else KIN
            own = self._own(device, names, like)
            if own is not None:
                lifts = _may_lift(key) and _are_of_one_kind(key, names)
                known = fitted(own[1], has_lattice=lifts)
                return self._carried(replace(known, reach=reach), key)
            for chosen, has_lattice in self._others(device, names):
                lifts = has_lattice and _may_lift(key)
                first, *rest = (fitted(curve, has_lattice=lifts) for curve in chosen)
                return self._carried(replace(first, also=tuple(rest), reach=reach), key)
        typical = {name: value for name, (value, _) in FAMILIES[family].prior_of(format).items()}
        return Fitted(typical, None, _GUESS_BANDS, False, "typical values of the model")

    def _of_its_own(self, found: Fitted, key: str) -> Fitted:
        """What was measured on the device itself. Of attention with other heads, masks or ratios
        than those that were measured no error of these tells: it is as on another device."""
        return replace(found, beyond=self._elsewhere(key, "")) if _is_attention(key) else found

    def _own(
        self, device: DeviceProfile, names: Sequence[str], like: str | None
    ) -> tuple[str, Curve] | None:
        """The first curve of the device itself; rather one of the same source."""
        file = self._files.get(device.name)
        if file is None:
            return None
        found = []
        for name in names:
            curve = (like and file.curves.get(of_source(name, like))) or file.curves.get(name)
            found += [(name, curve)] if curve else []
        return min(found, key=lambda each: not is_from(each[1], like), default=None)

    def _kin(self, device: DeviceProfile) -> tuple[list[FitFile], list[FitFile]]:
        """Files of other devices: of the same architecture, and all."""
        files = [f for name, f in self._files.items() if name not in (*_SHARED, device.name)]
        kin = [f for f in files if f.architecture and f.architecture == device.architecture]
        return kin, files

    def _alike(self, device: DeviceProfile, names: Sequence[str], like: str | None) -> list[Curve]:
        """Curves of the same source's kernels on other devices: of the same architecture, or all.
        Their remainders hold here, for they are the source's choices of kernels."""
        groups = ([c for c in _curves(g, names) if is_from(c, like)] for g in self._kin(device))
        return next((group for group in groups if group), [])

    def _of_other_sources(
        self, device: DeviceProfile, names: Sequence[str], like: str | None, alike: Fitted
    ) -> list[Fitted]:
        """What other sources' products say of devices in general, which counts as one more chip,
        with the start of this source: one chip does not tell what is its own from what is its
        source's. Only of products, which few libraries make for all sources."""
        if names[0].partition("/")[0] not in _OF_LIBRARIES or ANY not in self._files:
            return []
        files, general = self._kin(device)[1], self._files[ANY].curves
        known = (name for name in names if name in general)
        others = (n for n in known if any(not is_from(c, like) for c in _curves(files, [n])))
        found = [fitted(general[name], has_lattice=False) for name in others]
        return [one.started(alike.parameters["start"]) for one in found[:1]]

    def _of_own_kernels(
        self, device: DeviceProfile, names: Sequence[str], like: str | None, alike: Sequence[Curve]
    ) -> Fitted:
        """What plain products say of a format with kernels of its own, in this source's software.

        They share the device and not the kernels: tiles and their efficiencies are those of devices
        on average, and what a call takes before and around the kernel (scales, workspaces,
        roundings of activations) is what its other formats with kernels of their own take.
        """
        general = self._files[ANY].curves if ANY in self._files else {}
        typical = next((general[name] for name in names if name in general), alike[0])
        found = replace(fitted(typical, has_lattice=False), reach=KIN)
        return self._started(found, device, names[0].partition("/")[0], like)

    def _started(
        self, found: Fitted, device: DeviceProfile, family: str, like: str | None
    ) -> Fitted:
        """The same with the mean start of this source's formats with kernels of their own."""
        start_us = mean_start_us(
            curve
            for file in self._kin(device)[1]
            for key, curve in file.curves.items()
            if key.startswith(f"{family}/") and not _is_plain(key) and is_from(curve, like)
        )
        return found if start_us is None else found.started(start_us)

    def _others(
        self, device: DeviceProfile, names: Sequence[str]
    ) -> Iterator[tuple[list[Curve], bool]]:
        """Curves of other devices that are worth the same, closest first, and whether their
        remainders hold here: on the same chip; and of attention anywhere, whose remainders are how
        libraries split heads and keys (from an A100 to an H100 and back they halve the worst
        errors; those of products do not help)."""
        kin, files = self._kin(device)
        general = [f for name, f in self._files.items() if name == ANY]
        same = _curves([f for f in kin if f.units == device.units], names)
        if same:
            yield same[:1], True
        if _is_attention(names[0]):
            groups = ([c for c in _curves(group, names) if c.knots] for group in (kin, files))
            yield from ((group, True) for group in groups if group)
        rest = [f for f in kin if f.units != device.units]
        found = _curves([*rest, *general], names)
        yield from (([self._held(curve, names)], False) for curve in found)

    def _held(self, curve: Curve, names: Sequence[str]) -> Curve:
        """The same for another chip: 2:4 held by dense products."""
        family, _, format = names[0].partition("/")
        general = self._files[ANY].curves if ANY in self._files else {}
        keys = (f"{family}/{dense}" for dense in DENSE.get(format, ()))
        dense = next((general[key] for key in keys if key in general), None)
        return held(curve, dense, chips_with(self._files.values(), names)) if dense else curve

    def _carried(self, found: Fitted, key: str) -> Fitted:
        bands = self._elsewhere(key, found.reach)
        return replace(found, is_own=False, bands=bands, covers=None)

    def _elsewhere(self, key: str, reach: str) -> Bands:
        """Intervals of knowledge used elsewhere than where it was won: what leaving devices out has
        shown for this family and format, or else for the family."""
        curves = self._files[ANY].curves if ANY in self._files else {}
        family = key.partition("/")[0]
        kin = [] if family in _SEVERAL else [_FAMILY_KIN.get(family, family)]
        names = [key, family, *kin]
        names = [*(f"{reach}{name}" for name in names), *names]
        known = next((curves[name] for name in names if name in curves), None)
        return open_ended(known.bands) if known else _GUESS_BANDS

    def link(self, key: str, like: str | None = None) -> Curve | None:
        """The curve of a collective: `all_reduce/nccl/nvswitch`; rather as a source measured it."""
        links = self._files.get(LINKS)
        if links is None:
            return None
        return (like and links.curves.get(of_source(key, like))) or links.curves.get(key)

    def memory(self, software: str) -> Curve | None:
        """The curve of what a software occupies."""
        memories = self._files.get(MEMORY)
        return memories.curves.get(software) if memories else None


def _slowness(device: DeviceProfile, key: str) -> float:
    """How much longer than the reference a device takes to start kernels of a key."""
    family, _, format = key.partition("/")
    return slowness_of(device) if format in FAMILIES[family].single else 1.0


def _is_attention(key: str) -> bool:
    """Whether a curve is of kernels that libraries write themselves, for some heads and masks: what
    they take is smooth in sizes, but not in head groups."""
    return bool(FAMILIES[key.partition("/")[0]].rough)


def _is_plain(key: str) -> bool:
    """Whether a curve is of a format that libraries multiply like any float."""
    return key.partition("@")[0].rpartition("/")[2] in PLAIN


def _may_lift(key: str) -> bool:
    """Whether remainders of a family with the same parameters hold for a key's kernels."""
    return key.partition("/")[0] not in _SEVERAL


def _are_of_one_kind(key: str, names: Sequence[str]) -> bool:
    """Whether remainders of these curves, which are how libraries choose among their kernels, say
    anything of a key's kernels."""
    return _is_plain(key) or not _is_plain(names[0])


def _curves(files: Sequence[FitFile], names: Sequence[str]) -> list[Curve]:
    return [file.curves[name] for name in names for file in files if name in file.curves]


def formats_worth(format: str) -> frozenset[str]:
    """Formats whose curves serve as well as a format's own."""
    return frozenset(_KIN.get(format, ((format,),))[0]) | {format}


def of_source(key: str, source: str) -> str:
    """Key of what one of several sources measured."""
    return f"{key}@{source.split()[0]}"


def is_from(curve: Curve, source: str | None) -> bool:
    """Whether a curve was learnt from what this source measured, among others."""
    return source is not None and is_named(curve.source, source)


def is_named(text: str, source: str) -> bool:
    """Whether what a curve says of where it is from names a source of measurements."""
    words = source.split()
    return bool(words) and words[0].lower() in text.lower()


@cache
def shipped(device: str, architecture: str | None) -> Library:
    """What ships with infopt and can say something about a device."""
    profiles = {path.stem: path for path in resources.profiles()}
    chosen, others = [], []
    for path in resources.fits():
        name = path.stem
        is_kin = name in profiles and read_profile(profiles[name]).architecture == architecture
        if name in (device, *_SHARED) or (is_kin and architecture is not None):
            chosen.append(read_fits(path))
        elif any(family in path.read_text(encoding="utf-8") for family in _LENT):
            others.append(path)
    if not any(key.startswith(_LENT) for file in chosen for key in file.curves if file.units):
        chosen += [read_fits(path) for path in others]
    return Library(chosen)


def read(folder: Path) -> Library:
    """Every fit file of a folder."""
    return Library([read_fits(path) for path in sorted(folder.glob("*.yaml"))])
