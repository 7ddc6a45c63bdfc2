"""JSON schemas of infopt's documents, generated from the models that read them."""

from __future__ import annotations

from typing import Any

from planner.spec.base import Document
from planner.spec.constraints import Constraints
from planner.spec.manifest import Manifest
from planner.spec.node import NodeProfile
from planner.spec.plan import Plan
from planner.spec.profile import DeviceProfile

DIALECT = "https://json-schema.org/draft/2020-12/schema"

DOCUMENTS: dict[str, type[Document]] = {
    "constraints": Constraints,
    "plan": Plan,
    "manifest": Manifest,
    "profile": DeviceProfile,
    "node": NodeProfile,
}


def json_schema(name: str) -> dict[str, Any]:
    """The schema of one of `DOCUMENTS`; keys and defaults as they are written on disk.

    Why mode `serialization`: only there does pydantic write defaults in the document's own form
    (`60s`), and every document here reads back exactly what it writes.
    """
    schema = DOCUMENTS[name].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, **schema}
