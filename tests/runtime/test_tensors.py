"""Arrays on disk: the same bytes for the same arrays, and every type comes back."""

from __future__ import annotations

import io
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


def test_no_flipped_byte_ends_in_anything_but_arrays_or_a_refusal(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(40, dtype=np.float32) ** 0.5)
    raw = (tmp_path / "a.npz").read_bytes()
    refused = 0
    for place in range(len(raw)):
        (tmp_path / "b.npz").write_bytes(
            raw[:place] + bytes([raw[place] ^ 0x5D]) + raw[place + 1 :]
        )
        try:
            read_tensors(tmp_path / "b.npz")
        except DataError:
            refused += 1
    assert refused > len(raw) // 2


def test_an_array_larger_than_its_file_is_refused_before_its_memory_is_taken(
    tmp_path: Path,
) -> None:
    head = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 28, 28)}
    np.lib.format.write_array_header_1_0(head, described)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"a\.npz: .*x\.npy declares 3136000000000000 bytes"):
        read_tensors(tmp_path / "a.npz")
