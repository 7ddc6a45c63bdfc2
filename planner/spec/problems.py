"""Turns pydantic's findings into infopt's refusals: what, where, and the nearest fix."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from planner.errors import SpecError

KeyPath = tuple[str | int, ...]
MAX_LISTED = 8
_INSTANCE = re.compile(r" or instance of \w+")
"""Of Python's own classes, which no file can hold."""


def path_text(at: KeyPath) -> str:
    """`("workload", 0, "shapes")` -> `workload[0].shapes`."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def explain(
    error: ValidationError, root: type[BaseModel], where: Callable[[KeyPath], str]
) -> SpecError:
    """One refusal for everything pydantic found; `where` locates a key path for people."""
    found = error.errors(include_url=False)
    problems = [_problem(details, root) for details in found if not _is_echo(details, found)]
    if len(problems) == 1:
        at, what, fix = problems[0]
        return SpecError(what, where=where(at), fix=fix)
    listed = [f"\n  {where(at)}: {what}{_hint(fix)}" for at, what, fix in problems[:MAX_LISTED]]
    more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
    return SpecError(f"{len(problems)} problems{''.join(listed)}{more}")


def _is_echo(details: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """A list whose entries were refused counts as too short: the entries' own problems say it."""
    at = details["loc"]
    return details["type"] == "too_short" and any(
        other["loc"][: len(at)] == at and len(other["loc"]) > len(at) for other in found
    )


def _hint(fix: str | None) -> str:
    return f" (fix: {fix})" if fix else ""


def _problem(details: ErrorDetails, root: type[BaseModel]) -> tuple[KeyPath, str, str | None]:
    at = tuple(details["loc"])
    context: dict[str, Any] = details.get("ctx") or {}
    kind = details["type"]
    if kind == "infopt":
        key = context["key"]
        below = key.split(".", 1) if key else ()  # a pattern after the first dot may hold more dots
        return (*at, *below), context["what"], context["fix"]
    if kind == "extra_forbidden":
        known = keys_at(root, at[:-1])
        return at, f"unknown key {at[-1]!r}", nearest(str(at[-1]), known)
    if kind == "missing":
        return at, "is missing", None
    if kind in ("literal_error", "enum"):
        return at, f"{details['input']!r} is not allowed", f"one of {context['expected']}"
    if kind == "too_short":
        return at, "is empty", "name at least one, or leave the key out"
    return at, f"{_plain(details['msg'])}, found {_short(details['input'])}", None


def _plain(message: str) -> str:
    """Pydantic's sentence in YAML's words: `Input should be a valid tuple` -> `must be a list`."""
    words = {
        "Input is not a valid path for <class 'pathlib.Path'>": "must be a path",
        "Input should be": "must be",
        "valid tuple": "list",
        "valid dictionary": "mapping",
        "valid string": "text",
        "an object": "a mapping",
    }
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return _INSTANCE.sub("", message)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """The closest known word, those that begin with it, or all of them when none is close; capital
    letters are as good as small ones."""
    if not known:
        return None
    spelt = {name.casefold(): name for name in known}
    word = word.casefold()
    longer = [name for folded, name in spelt.items() if word and folded.startswith(word)]
    if longer:
        return f"did you mean {' or '.join(map(repr, longer))}?"
    near = difflib.get_close_matches(word, spelt, n=1)
    return f"did you mean {spelt[near[0]]!r}?" if near else f"one of {', '.join(known)}"


def keys_at(root: type[BaseModel], at: KeyPath) -> tuple[str, ...]:
    """The keys allowed in the document at a key path."""
    model: type[BaseModel] | None = root
    for part in at:
        if isinstance(part, int) or model is None:
            continue
        field = _fields(model).get(part)
        model = _model_in(field) if field is not None else None
    return tuple(_fields(model)) if model is not None else ()


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Field annotations by the key that stands in the document."""
    return {
        str(field.validation_alias or name): field.annotation
        for name, field in model.model_fields.items()
    }


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The document type inside `X`, `X | None`, `tuple[X, ...]` or `Annotated[X, ...]`."""
    inner_types = typing.get_args(annotation)
    if not inner_types:
        is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        return annotation if is_model else None
    found = (_model_in(inner) for inner in inner_types)
    return next((model for model in found if model is not None), None)
