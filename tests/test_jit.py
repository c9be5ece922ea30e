"""Loops are compiled, and the code is kept where there is a place for it."""

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba.core.dispatcher import Dispatcher

from caloforge.jit import compiled

LOOP = """
def total(values):
    result = 0.0
    for k in range(len(values)):
        result += values[k]
    return result
"""


def test_what_has_no_place_for_its_code_is_compiled_all_the_same():
    names = {}
    # no file, no folder beside it
    exec(compile(LOOP, "<nowhere>", "exec"), names)
    function = compiled(fastmath=False)(names["total"])
    assert function(np.arange(4.0)) == 6.0
    assert function.signatures


def test_a_full_disk_does_not_stop_what_is_compiled(tmp_path, monkeypatch):
    source = tmp_path / "loops.py"
    source.write_text(LOOP)
    names = {}
    exec(compile(LOOP, str(source), "exec"), names)
    function = compiled(fastmath=False)(names["total"])

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert function(np.arange(4.0)) == 6.0
    assert function.signatures


def test_code_is_kept():
    from caloforge.generation.noise_kernels import _mix

    assert _mix.stats.cache_path


def test_one_thread_compiles_at_a_time(monkeypatch):
    """Numba prepares a compilation outside its own lock, and fails at random if two threads do so at once."""
    compile_for_args, inside, most = Dispatcher._compile_for_args, [], []

    def observed(self, *args, **options):
        inside.append(threading.get_ident())
        most.append(len(set(inside)))
        time.sleep(0.2)
        result = compile_for_args(self, *args, **options)
        inside.remove(threading.get_ident())
        return result

    monkeypatch.setattr(Dispatcher, "_compile_for_args", observed)
    names = {}
    exec(compile(LOOP, "<nowhere>", "exec"), names)
    function = compiled(fastmath=False)(names["total"])
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(function, [np.arange(4.0)] * 2)) == [6.0, 6.0]
    assert most and max(most) == 1
