"""YAML as people write it: the line of every key, and no surprises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.errors import SpecError
from planner.spec.yaml_source import MAX_SIZE_BYTES, load, loads

HERE = Path("c.yaml")


def test_every_key_and_entry_has_its_line() -> None:
    source = loads("a: 1\nb:\n  - x\n  - {c: 2.5e-3}\n", HERE)
    assert source.data == {"a": 1, "b": ["x", {"c": 2.5e-3}]}
    assert source.lines == {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2:4", "2:4"),
        ("on", "on"),
        ("1..4", "1..4"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0x10", 16),
        ("'1'", "1"),
        ("true", True),
        ("~", None),
        ("-.5", -0.5),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    assert loads(f"a: {text}", HERE).data["a"] == value


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\na: 2", 2, "given twice, first in line 1"),
        ("a: &x 1\nb: *x", 1, "anchors and aliases"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "tag"),
        ("a: [1,\nb", 2, "not valid YAML"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("- 1", 1, "not a mapping"),
        ("just text", 1, "not a mapping"),
        ("a: 1\n---\nb: 2", 2, "more than one document"),
        ("? [1, 2]\n: 3", 1, "key must be plain text"),
        ("a: " + "[" * 40, 1, "nested deeper"),
        ("a: " + "9" * 5000, 1, "5000 digits"),
        ("a: [" + "1," * 30_000 + "1]", 1, "more than 20000 keys and values"),
    ],
)
def test_refusals_name_the_line(text: str, line: int, what: str) -> None:
    with pytest.raises(SpecError, match=what) as refused:
        loads(text, HERE)
    assert refused.value.where == f"c.yaml:{line}"


def test_control_characters_are_refused() -> None:
    with pytest.raises(SpecError, match="not valid YAML"):
        loads("a: \x07", HERE)


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert loads("# nothing\n", HERE).data == {}


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_SIZE_BYTES + 1))
    for name, what in (
        ("latin.yaml", "UTF-8"),
        ("large.yaml", "larger than"),
        (".", "a directory"),
        ("absent.yaml", "no such"),
        ("absent/absent.yaml", "no such"),
        ("nul\0.yaml", "not a file name"),
    ):
        with pytest.raises(SpecError, match=what):
            load(tmp_path / name)


def test_a_misspelt_file_name_gets_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "constraints.yaml").write_text("a: 1")
    with pytest.raises(SpecError) as refused:
        load(tmp_path / "constrants.yaml")
    assert refused.value.fix == f"did you mean {tmp_path / 'constraints.yaml'}?"
