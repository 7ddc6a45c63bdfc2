"""Text that models and users named, inside HTML and SVG."""

from __future__ import annotations

from html import escape


def clean(text: str) -> str:
    """No markup, and no control characters: XML has none."""
    return escape("".join(c if c.isprintable() else "�" for c in text))
