"""Engines that several tests only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime import build


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One affine segment; never altered."""
    return build.tiny_engine(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three affine segments; never altered."""
    return build.chain_engine(tmp_path_factory.mktemp("chain"))
