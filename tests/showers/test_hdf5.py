"""What keeps an HDF5 file from being read is told apart: an advice that loses data helps nobody."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import DataError
from caloforge.showers import ShowerFile, hdf5, hdf5_scan
from caloforge.showers.converters.common import ForeignFile
from caloforge.showers.hdf5 import Hdf5File


@pytest.fixture(params=["shower file", "foreign file"])
def opened(request):
    """Both ways to open a file for reading."""
    return ShowerFile if request.param == "shower file" else lambda path: ForeignFile(path, "3DGAN")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["showers"] = np.ones((3, 4))
    return path


def refusal(opened, path):
    with pytest.raises(DataError) as caught:
        opened(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def writer(path, *lines, mode="a", libver="earliest"):
    """Another process that has a file open for writing."""
    script = "\n".join(
        [
            "import h5py, os, sys",
            f"file = h5py.File({str(path)!r}, {mode!r}, libver={libver!r})",
            "file.flush()",
            "print('open', flush=True)",
            *lines,
        ]
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    return process


def test_locked_by_another_process(opened, file):
    process = writer(file, "sys.stdin.read()")
    try:
        text = refusal(opened, file)
    finally:
        process.communicate()
    assert "another process has this file open for writing (it is locked); wait" in text
    assert "the file is not damaged" in text
    assert "copy" not in text


def test_left_open_by_a_killed_writer(opened, file):
    process = writer(file, "os.kill(os.getpid(), 9)", mode="w", libver="latest")
    process.communicate()
    text = refusal(opened, file)
    assert "was not closed by the program that wrote it" in text
    assert "h5clear -s" in text
    assert "copy" not in text


def test_unreadable(opened, file, monkeypatch):
    def refused(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, who may read everything
    monkeypatch.setattr(Path, "open", refused)
    text = refusal(opened, file)
    assert "no permission to read this file" in text
    assert "it is not damaged" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_unreadable_by_its_mode(opened, file):
    file.chmod(0o600)
    os.seteuid(65534)
    try:
        text = refusal(opened, file)
    finally:
        os.seteuid(0)
    assert "no permission to read this file" in text


def test_truncated_empty_and_no_hdf5(opened, file, tmp_path):
    os.truncate(file, file.stat().st_size - 10)
    assert f"is truncated ({file.stat().st_size} bytes); make it again" in refusal(opened, file)
    (tmp_path / "empty.h5").touch()
    assert "is empty" in refusal(opened, tmp_path / "empty.h5")
    (tmp_path / "text.h5").write_text("energy, shower")
    assert "is no HDF5 file (14 bytes)" in refusal(opened, tmp_path / "text.h5")
    assert "no such file" in refusal(opened, tmp_path / "none.h5")
    assert "this is a directory" in refusal(opened, tmp_path)


def test_what_is_no_regular_file(opened, tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    assert "no regular file" in refusal(opened, tmp_path / "fifo.h5")
    assert "no regular file" in refusal(opened, Path("/dev/zero"))


def filtered(path, number, label=b""):
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"showers", h5py.h5t.NATIVE_FLOAT, space, plist)
    return path


@pytest.mark.parametrize(("number", "name"), [(32001, "Blosc"), (32015, "Zstandard"), (32008, "Bitshuffle")])
def test_a_filter_that_is_not_installed(tmp_path, monkeypatch, number, name):
    monkeypatch.setattr(hdf5, "find_spec", lambda _: None)
    with Hdf5File(filtered(tmp_path / "a.h5", number)) as file, pytest.raises(DataError) as caught:
        file.array("showers")
    text = str(caught.value)
    assert f"'showers' is compressed with {name} (HDF5 filter {number}), which is not installed" in text
    assert text.endswith("the file is not damaged: pip install 'caloforge[hdf5]'")


def test_a_filter_that_nobody_knows(tmp_path):
    words = r"filter 31999\), which is not installed.*h5repack"
    with Hdf5File(filtered(tmp_path / "a.h5", 31999)) as file, pytest.raises(DataError, match=words):
        file.array("showers")


def test_a_filter_of_hdf5plugin_is_used(tmp_path):
    plugins = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("showers", data=np.arange(8.0), chunks=(4,), compression=plugins.Zstd())
    with Hdf5File(tmp_path / "a.h5") as file:
        assert np.array_equal(file.read(file.array("showers")), np.arange(8))


# ---- the first look


def test_what_hangs_or_crashes_is_told_and_asked_once(opened, file, monkeypatch):
    calls = []

    def hang(path):
        calls.append(path)
        while True:
            pass

    monkeypatch.setattr(hdf5_scan, "_walk", hang)
    monkeypatch.setattr(hdf5_scan, "CPU_SECONDS", 1)
    assert "HDF5 does not come to an end reading it" in refusal(opened, file)
    monkeypatch.setattr(hdf5_scan, "_walk", lambda _: os.abort())
    # the answer is kept as long as the file stays as it is
    assert "HDF5 does not come to an end reading it" in refusal(opened, file)
    os.utime(file, (1, 1))
    assert "HDF5 crashes reading it (SIGABRT)" in refusal(opened, file)


def test_a_look_at_much_memory_harms_nobody(file, monkeypatch):
    monkeypatch.setattr(hdf5_scan, "_walk", lambda _: np.ones(2**32))
    assert hdf5_scan.look(file) == ""


# ---- the budget


def test_a_chunk_beyond_the_budget(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4, 4), "f8", maxshape=(None, None), chunks=(10_000, 10_000))
    with (
        Hdf5File(tmp_path / "a.h5") as file,
        pytest.raises(DataError, match=r"a chunk of 'x' takes 800 MB .* at most 268 MB .* h5repack -l x"),
    ):
        file.array("x")


def test_more_than_a_file_can_hold(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (10**9,), "f8", chunks=(1000,))
    words = r"stands for 8 GB, but the file has .* kB: it was never filled"
    with Hdf5File(tmp_path / "a.h5") as file, pytest.raises(DataError, match=words):
        file.array("x")


def test_a_large_block_of_a_small_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "READ_BYTES", 1000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (30_000,), "f8", chunks=(100,))
    with Hdf5File(tmp_path / "a.h5") as file:
        stored = file.array("x")
        monkeypatch.setattr(hdf5, "READ_RATIO", 1)
        with pytest.raises(DataError, match=r"x 0-30000 takes 240 kB .* read fewer showers at a time"):
            file.read(stored)
        assert file.rows_at_once(stored) > 0
        assert len(file.read(stored, 5, 10)) == 5


def test_batches_stay_within_the_budget(shower_file, monkeypatch):
    with ShowerFile(shower_file) as file:
        whole = file.read()
        monkeypatch.setattr(hdf5.Hdf5File, "rows_at_once", lambda *_: 3)
        parts = list(file.iterate(16))
    assert [len(part) for part in parts] == [3] * 6 + [2]
    assert np.array_equal(np.concatenate([part.showers for part in parts]), whole.showers)


# ---- values that are something else


@pytest.mark.parametrize("value", [[1, 2], np.zeros((1, 2)), h5py.Empty("f4"), np.void(b"\x00\x01")])
def test_an_attribute_that_is_no_scalar(tmp_path, value):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["x"] = value
    with Hdf5File(tmp_path / "a.h5") as file, pytest.raises(DataError, match="the attribute 'x'"):
        file.attribute("x")


@pytest.mark.parametrize(
    ("value", "expected"), [([3], 3), (np.bytes_(b"ab"), "ab"), ("ab", "ab"), (2.5, 2.5)]
)
def test_an_attribute_that_is_one(tmp_path, value, expected):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["x"] = value
    with Hdf5File(tmp_path / "a.h5") as file:
        assert file.attribute("x") == expected
        assert file.attribute("y") is None


def test_a_closed_file_says_so(file):
    with Hdf5File(file) as opened:
        stored = opened.array("showers")
    with pytest.raises(DataError, match="this file is closed; open it again"):
        opened.read(stored)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("y"), OSError("z"), SystemError(), MemoryError()]
)
def test_whatever_h5py_raises_is_an_error_of_ours(shower_file, monkeypatch, error):
    def broken(*_):
        raise error

    with ShowerFile(shower_file) as file:
        monkeypatch.setattr(h5py.Dataset, "__getitem__", broken)
        with pytest.raises(DataError, match="showers 0-20: damaged, cannot be read"):
            file.read()
