"""Arrays on disk: the same bytes for the same arrays, and every type comes back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from planner.errors import DataError
from planner.runtime.tensors import read_tensors, write_tensors

ARRAYS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer/0:out.npy": np.array(7),
    "half": np.array([[1, 2]], ml_dtypes.bfloat16),
    "scalar": np.array(1.5, ml_dtypes.bfloat16),
    "f8": np.array([0.5], ml_dtypes.float8_e4m3fn),
    "words": np.array(["a", "é", ""], object),
    "none": np.empty((0, 4), np.int64),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def test_round_trip(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npz", ARRAYS)
    found = read_tensors(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array)


def test_the_same_arrays_make_the_same_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npz", ARRAYS)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        years = {info.date_time[0] for info in archive.infolist()}
    assert years == {1980}
    write_tensors(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_numpy_reads_ours_and_we_read_numpys(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npz", {"x": ARRAYS["x"]})
    assert np.array_equal(np.load(tmp_path / "a.npz")["x"], ARRAYS["x"])
    np.savez_compressed(tmp_path / "b.npz", x=ARRAYS["x"])
    assert np.array_equal(read_tensors(tmp_path / "b.npz")["x"], ARRAYS["x"])


def test_objects_that_are_not_strings_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="strings only"):
        write_tensors(tmp_path / "a.npz", {"x": np.array([{}], object)})
    np.savez(tmp_path / "b.npz", x=np.array([{}], object))
    with pytest.raises(DataError, match=r"b\.npz"):
        read_tensors(tmp_path / "b.npz")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + b"\0" * 40, b"hello"])
def test_files_that_are_no_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz"):
        read_tensors(tmp_path / "a.npz")
    with pytest.raises(DataError, match="no such file"):
        read_tensors(tmp_path / "absent.npz")
