"""Parts of a generation, as array jobs make them."""

import itertools

import numpy as np
import pytest

from caloforge.campaign_part import Part, parts_pattern
from caloforge.cli import main
from caloforge.errors import ConfigError
from caloforge.showers import ShowerFile


def generate(out, *options):
    words = [
        "generate",
        "clic-electron",
        "-n",
        "25",
        "--energy",
        "10 GeV:20 GeV",
        "--seed",
        "3",
        "-o",
        str(out),
    ]
    return main([*words, "--threads", "1", "--no-progress", *options])


def test_parts_give_the_showers_of_the_whole(tmp_path, capsys):
    whole, out = tmp_path / "whole.h5", tmp_path / "t.h5"
    assert generate(whole) == 0
    join = ["join", str(parts_pattern(out, 3)), "-o", str(out), "--when-complete", "--no-progress"]
    for number in (3, 1, 2):
        assert generate(out, "--part", f"{number}/3", "--resume") == 0
        assert main(join) == 0
        assert out.exists() == (number == 2)
    with ShowerFile(whole) as one, ShowerFile(out) as other:
        np.testing.assert_array_equal(one.column("incident_energy"), other.column("incident_energy"))
        np.testing.assert_allclose(one.read().showers, other.read().showers, rtol=1e-5, atol=1e-6)
        for key in ("n", "seed", "beam", "model_digest"):
            assert one.provenance[key] == other.provenance[key]
        assert "joined" not in other.provenance
    capsys.readouterr()
    # a restarted job leaves its part as it is
    assert generate(out, "--part", "1/3", "--resume") == 0
    assert "finished already" in capsys.readouterr().out
    assert generate(out, "--part", "1/3") == 1
    assert generate(Part(1, 3).path(out), "--resume") == 1


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "1/0", "a/b", "1/3/5", "-1/3", "1/1000000"])
def test_parts_that_make_no_sense(tmp_path, text, capsys):
    with pytest.raises(ConfigError, match="expected PART/PARTS"):
        Part.parse(text)
    assert generate(tmp_path / "t.h5", "--part", text) == 2
    assert list(tmp_path.iterdir()) == []


def test_more_parts_than_showers(tmp_path, capsys):
    assert generate(tmp_path / "t.h5", "--part", "1/26") == 2
    assert "25 showers do not fill 26 parts" in capsys.readouterr().err


def test_parts_are_equal_and_complete():
    for n, parts in ((25, 3), (100, 7), (5, 5)):
        intervals = [Part(number, parts).interval(n) for number in range(1, parts + 1)]
        assert intervals[0][0] == 0 and intervals[-1][1] == n
        assert all(one[1] == other[0] for one, other in itertools.pairwise(intervals))
        sizes = [last - first for first, last in intervals]
        assert max(sizes) - min(sizes) <= 1
