"""Verbs where the disk is full or files may not be so large: one line, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path(__file__).with_name("full.py")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def run(*words, prefix=()):
    command = [*prefix, sys.executable, FULL, *words]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=280, env=ENVIRONMENT
    )
    # no crash when the process ends either
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    run("prepare", folder, folder)
    return folder


def check(tries, *reasons):
    assert len({found["name"].split()[0] for found in tries}) == 9
    for found in tries:
        assert found["code"] == 1, found
        assert found["errors"].count("\n") == 1, found
        assert any(reason in found["errors"] for reason in reasons), found
        left = set(found["left"])
        if found["name"].startswith("simulate"):
            # what is finished so far
            left -= {"out.h5.parts"}
        if found["name"].startswith("train"):
            left -= {"out"}
        assert not left, found
        assert found.get("resumed", [0, ""]) == [0, ""], found


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(source, tmp_path):
    check(run("limit", source, tmp_path), "raise it (ulimit -f)")


def test_the_umask_decides_who_may_read_models_and_showers(source):
    files = [path for path in source.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".h5", ".safetensors", ".json", ".jsonl", ".yaml"}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o640)}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_disk_that_is_full(source, tmp_path):
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine does not allow small file systems of one's own")
    script = f'{mount} && exec "$0" "$@"'
    tries = run("disk", source, tmp_path, prefix=("unshare", "-rm", "sh", "-c", script))
    # a simulation looks before it begins
    check(tries, "the disk is full", "are free")
