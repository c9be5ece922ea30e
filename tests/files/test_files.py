"""Outputs: refused where something would be lost, written whole or not at all."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge import files
from caloforge.errors import OutputError
from caloforge.files import check_new, check_space, partial_path, write_text, writing


def test_a_new_output_gets_its_folder(tmp_path):
    path = tmp_path / "a/b/c.txt"
    assert check_new(path) == path
    assert path.parent.is_dir()
    assert not path.exists()


def test_an_output_that_exists(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    with pytest.raises(OutputError, match=r"a\.txt exists already; give --force to replace it"):
        check_new(path)
    with pytest.raises(OutputError, match="give --resume or --force"):
        check_new(path, hint="--resume or --force")
    assert check_new(path, force=True) == path


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create this directory"):
        check_new(tmp_path / "file/a.txt")
    with pytest.raises(OutputError, match=r"cannot (be used as an output|create)"):
        check_new(tmp_path / ("x" * 300) / "a.txt")
    with pytest.raises(OutputError, match="cannot be used as an output"):
        check_new(tmp_path / ("x" * 300))


def test_a_place_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission to write here; choose another output"):
        check_new(tmp_path / "a.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        check_new(tmp_path / "a.txt")
    tmp_path.chmod(0o700)


def test_too_little_space(tmp_path):
    check_space(tmp_path / "a", 1, "a file")
    with pytest.raises(OutputError, match=r"a file needs about 1 000 TB but .* choose another disk"):
        check_space(tmp_path / "a", 10**15, "a file")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (
            OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
            "the disk is full",
        ),
        (RuntimeError("Unable to flush (file write failed: 'No space left on device')"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "no permission"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission"),
        (OSError(errno.EIO, "Input/output error"), "cannot be written .*Input/output error"),
        (OSError(errno.EFBIG, "File too large"), r"limit on the size of files; raise it \(ulimit -f\)"),
        (RuntimeError("Can't close\n (file write failed:\n x)"), r"cannot be written \(Can't close \(file"),
        (RuntimeError("file write failed: time = today"), "cannot be written"),
    ],
)
def test_errors_of_the_system_say_what_to_do(error, message):
    with pytest.raises(OutputError, match=message) as caught, writing(Path("out/a.h5")):
        raise error
    assert str(caught.value).startswith("out/a.h5")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="mine"), writing(Path("a")):
        raise RuntimeError("mine")


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "old µ\n")
    assert path.read_text(encoding="utf-8") == "old µ\n"

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old µ\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "a.h5"
    mine = partial_path(path)
    assert mine.name.startswith(".a.h5.")
    assert mine.name.endswith(f".{os.getpid()}.partial")
    # a process that has ended, one that lives, one of another host, one of another output
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    kept = [
        mine,
        mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{os.getppid()}.")),
        mine.with_name(f".a.h5.elsewhere.{ended.pid}.partial"),
        dead.with_name(dead.name.replace(".a.h5.", ".b.h5.")),
        path,
    ]
    for file in (dead, *kept):
        file.touch()
    assert partial_path(path) == mine
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_names_with_odd_characters(tmp_path):
    path = tmp_path / "a [1]*?.h5"
    partial_path(path).touch()
    assert partial_path(path).exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_text_on_a_disk_that_is_really_full(tmp_path):
    mount = f"mount -t tmpfs -o size=8k tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow small file systems of one's own")
    script = (
        "import os, sys; from pathlib import Path; from caloforge.files import write_text\n"
        "path = Path(sys.argv[1], 'a.txt'); write_text(path, 'old')\n"
        "try: write_text(path, 'x' * 100000)\n"
        "except Exception as error: print(error, path.read_text(), os.listdir(path.parent))"
    )
    command = f'{mount} && "$0" -c "$1" {tmp_path}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, sys.executable, script], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("run the same command again old ['a.txt']")
