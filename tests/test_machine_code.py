"""Loops are compiled, and the code is kept where there is a place for it."""

import numpy as np

from caloforge.machine_code import compiled

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


def test_code_is_kept():
    from caloforge.generation.mixing import _mix

    assert _mix.stats.cache_path
