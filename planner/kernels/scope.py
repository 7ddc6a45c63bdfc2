"""Where generated lines go: values made once, as far out as what they depend on allows.

Scope 0 is the kernel body, in two parts: what reads only weights (`early`, before the wait for the
kernel in front) and the rest. Further scopes are bodies of loops.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Value:
    """A generated tensor or scalar."""

    name: str
    axes: tuple[str, ...]
    """Tile axes it spans, in tile order; empty for a scalar."""
    dtype: str
    """`float32`, `float16`, `int32`, `bool`, ..."""
    early: bool
    """Whether it depends on nothing but weights and indices."""
    depth: int
    """Scope it lives in."""

    @property
    def is_float(self) -> bool:
        """Whether arithmetic on it is floating point."""
        return "float" in self.dtype


@dataclass(slots=True)
class Scope:
    """One body: lines in order, and what they made."""

    early: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    made: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Scopes:
    """The bodies that are open, outermost first."""

    open: list[Scope] = field(default_factory=lambda: [Scope()])
    _names: int = 0

    def fresh(self, base: str = "v") -> str:
        """A name nothing else has."""
        self._names += 1
        return f"{base}{self._names}"

    def find(self, key: str) -> Value | None:
        """A value made in any open scope."""
        for scope in reversed(self.open):
            if key in scope.made:
                return scope.made[key]
        return None

    def define(self, key: str | None, text: str, value: Value) -> Value:
        """Adds the line that makes a value, and remembers it."""
        self.line(f"{value.name} = {text}", value.depth, value.early)
        if key is not None:
            self.open[value.depth].made[key] = value
        return value

    def line(self, text: str, depth: int, early: bool) -> None:
        """Adds a line to a scope."""
        scope = self.open[depth]
        (scope.early if early and depth == 0 else scope.lines).append(text)

    def push(self) -> int:
        """Opens the body of a loop; its depth."""
        self.open.append(Scope())
        return len(self.open) - 1

    def pop(self, header: str, *, early: bool) -> None:
        """Closes the body of a loop, and puts the loop where it was opened."""
        body = self.open.pop()
        depth = len(self.open) - 1
        self.line(header, depth, early)
        for text in (*body.early, *body.lines):
            self.line("    " + text, depth, early)
