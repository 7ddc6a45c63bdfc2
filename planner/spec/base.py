"""The one base of every document infopt reads or writes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Frozen, unknown keys refused, field docs under the field become schema descriptions.

    A field named after its unit (`time_limit_s`) has the document's key (`time_limit`) as alias:
    documents are read by alias only, Python code may use either.
    """

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
    )
