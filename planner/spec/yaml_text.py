"""Writing YAML: plain data as people would write it."""

from __future__ import annotations

from typing import Any

import yaml

WIDTH = 100


def to_yaml(data: Any) -> str:
    """Mappings in their own order, one key a line."""
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text
