"""Documents on disk: canonical JSON, sealed where it matters, read with one clear message.

`plan.json` carries a digest of itself, so that a plan edited by hand is told from one infopt made.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from planner.errors import SpecError, VerificationError
from planner.spec.base import Document
from planner.spec.manifest import MANIFEST_VERSION, Manifest
from planner.spec.package import PACKAGE_VERSION, Package
from planner.spec.plan import SCHEMA_VERSION, Plan
from planner.spec.problems import explain, path_text
from planner.spec.verified import VERIFIED_VERSION, Verified
from planner.spec.writing import write_atomically

MAX_JSON_SIZE_BYTES = 512 * 2**20
"""A plan of 100,000 operators is about 60 MB."""

_D = TypeVar("_D", bound=Document)


def read_bytes(path: Path, *, what: str, limit_bytes: int) -> bytes:
    """The whole file, at most `limit_bytes`.

    Raises:
        SpecError: missing (with the nearest name there is), a directory, unreadable or too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise SpecError(f"no such {what}", where=str(path), fix=_nearest_file(path)) from error
    except IsADirectoryError as error:
        raise SpecError(f"a directory, not a {what}", where=str(path)) from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:  # a NUL byte in the path
        raise SpecError(f"not a file name: {error}", where=repr(str(path))) from error
    if len(raw) > limit_bytes:
        raise SpecError(f"larger than {limit_bytes} bytes, no {what}", where=str(path))
    return raw


def _nearest_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else None


def canonical_json(document: Document) -> bytes:
    """The one way a document is written: sorted keys, two spaces, UTF-8, a final newline."""
    return canonical_bytes(document.model_dump(mode="json", by_alias=True))


def canonical_bytes(data: Mapping[str, Any]) -> bytes:
    """The same of a document's data."""
    text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def plan_digest(plan: Plan) -> str:
    """SHA-256 of the plan's canonical JSON with an empty digest field."""
    return hashlib.sha256(canonical_json(plan.model_copy(update={"digest": ""}))).hexdigest()


def sealed(plan: Plan) -> Plan:
    """The plan with its digest filled in."""
    return plan.model_copy(update={"digest": plan_digest(plan)})


def write_plan(path: Path, plan: Plan) -> Plan:
    """Writes plan.json atomically, sealed; returns what was written.

    Raises:
        UsageError: the folder is missing, read-only or full.
    """
    written = sealed(plan)
    write_atomically(path, canonical_json(written))
    return written


def read_plan(path: Path) -> Plan:
    """Reads and checks plan.json.

    A plan from before a field existed is whole as well, and sealed anew: wherever it is written
    next, that field is there.

    Raises:
        SpecError: missing, not JSON, another schema version, or not a plan.
        VerificationError: edited after infopt wrote it.
    """
    plan = _read(path, Plan, "plan", "schema_version", SCHEMA_VERSION)
    if plan.digest == plan_digest(plan):
        return plan
    if plan.digest == _digest_as_written(path):
        return sealed(plan)
    raise VerificationError(
        "this plan was edited after infopt wrote it: its digest does not match",
        where=str(path),
        fix="run `infopt plan` again; limits belong in the constraints file",
    )


def _digest_as_written(path: Path) -> str:
    """The digest of what stands in the file."""
    data = json.loads(path.read_bytes())
    return hashlib.sha256(canonical_bytes({**data, "digest": ""})).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """Reads an engine's manifest.json.

    Raises:
        SpecError: missing, not JSON, another manifest version, or not a manifest.
    """
    return _read(path, Manifest, "engine manifest", "manifest_version", MANIFEST_VERSION)


def read_verified_file(path: Path) -> Verified:
    """Reads what a target measured of an engine.

    Raises:
        SpecError: missing, not JSON, another version, or none.
    """
    return _read(path, Verified, "verified engine", "verified_version", VERIFIED_VERSION)


def read_package(path: Path) -> Package:
    """Reads the table of contents of a deploy target's folder.

    Raises:
        SpecError: missing, not JSON, another version, or none.
    """
    return _read(path, Package, "package", "package_version", PACKAGE_VERSION)


def _read(path: Path, kind: type[_D], what: str, version_key: str, version: int) -> _D:
    data = _json_object(path, what)
    found = data.get(version_key)
    if found != version:
        raise SpecError(
            f"{version_key} {found!r} is not one this infopt reads ({version})"
            if version_key in data
            else f"not a {what}: it has no {version_key}",
            where=str(path),
            fix=f"make the {what} again with this version of infopt",
        )
    try:
        return kind.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise explain(error, kind, lambda at: f"{path}: {path_text(at)}") from error


def _json_object(path: Path, what: str) -> dict[str, Any]:
    raw = read_bytes(path, what=what, limit_bytes=MAX_JSON_SIZE_BYTES)
    try:
        data = json.loads(raw, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise SpecError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    except UnicodeDecodeError as error:
        is_model = what == "plan" and path.suffix == ".onnx"
        fix = f"infopt plan {path} makes one" if is_model else None
        raise SpecError(f"not a {what}: it is no text", where=str(path), fix=fix) from error
    except (RecursionError, ValueError) as error:
        raise SpecError(f"not a {what}: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise SpecError(f"not a {what}: the document is no JSON object", where=str(path))
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
