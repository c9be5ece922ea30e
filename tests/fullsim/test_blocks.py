"""Blocks of showers on disk: whole or not there, in order, and never of another campaign."""

import errno

import numpy as np
import pytest

from caloforge.campaign.parts import MANIFEST, Parts
from caloforge.campaign.pool import MAX_BLOCK, BlockSize, Queue, log_end
from caloforge.errors import ConfigError, OutputError, SimulationError
from caloforge.fullsim.blocks import Block, shower_batches

SHAPE = (2, 3, 4)
SETTINGS = {"beam": {"energy": {"min": "10 GeV", "max": "500 GeV"}}, "seed": 3}


def dense(start, stop):
    rng = np.random.default_rng(1)
    showers = rng.exponential(size=(100, *SHAPE)).astype(np.float32)
    showers[rng.random(showers.shape) < 0.7] = 0
    # one shower sees nothing at all
    showers[7] = 0
    return showers[start:stop]


def block(start, stop):
    showers = dense(start, stop).reshape(stop - start, -1)
    rows, voxels = np.nonzero(showers)
    return Block(
        start=start,
        counts=np.bincount(rows, minlength=stop - start).astype(np.uint32),
        voxels=voxels.astype(np.uint32),
        energies=showers[rows, voxels],
        seconds=np.arange(start, stop, dtype=np.float32),
    )


@pytest.fixture
def parts(tmp_path):
    with Parts(tmp_path / "t.h5.parts", SETTINGS, 20, restart=False) as opened:
        yield opened


def test_block_on_disk(tmp_path):
    block(5, 12).save(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == "0000000005-0000000012.npz"
    np.testing.assert_array_equal(Block.load(path).dense(6, 11, SHAPE), dense(6, 11))


def test_disk_full(tmp_path, monkeypatch):
    def save(stream, **arrays):
        stream.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", save)
    with pytest.raises(OutputError, match="the disk is full; free some space and run the same command again"):
        block(0, 3).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_are_the_showers_in_order(parts, size):
    # overlaps happen when a campaign is resumed with more showers than it began with
    for limits in ((0, 2), (9, 14), (2, 9), (12, 20), (20, 30)):
        block(*limits).save(parts.folder)
    found = list(shower_batches(parts, size, SHAPE))
    assert [len(showers) for _, showers, _ in found[:-1]] == [size] * (len(found) - 1)
    assert [start for start, _, _ in found] == list(range(0, 20, size))
    np.testing.assert_array_equal(np.concatenate([showers for _, showers, _ in found]), dense(0, 20))
    np.testing.assert_array_equal(np.concatenate([seconds for *_, seconds in found]), np.arange(20))


def test_missing_showers(parts):
    assert parts.missing() == [(0, 20)]
    for limits in ((2, 4), (4, 9), (15, 30)):
        block(*limits).save(parts.folder)
    # left by a kill while it was written
    (parts.folder / ".0000000009-0000000015.npz.77.partial").write_bytes(b"half")
    assert parts.missing() == [(0, 2), (9, 15)]


def test_damaged_block_is_made_again(parts):
    block(0, 20).save(parts.folder)
    path = parts.folder / "0000000000-0000000020.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SimulationError, match=r"damaged and has been removed; run .* --resume"):
        list(shower_batches(parts, 5, SHAPE))
    assert parts.missing() == [(0, 20)]


def test_empty_campaign_leaves_nothing(tmp_path):
    folder = tmp_path / "t.h5.parts"
    with Parts(folder, SETTINGS, 20, restart=False):
        assert (folder / MANIFEST).exists()
    assert not folder.exists()


def test_what_others_put_there_is_kept(tmp_path):
    folder = tmp_path / "t.h5.parts"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "results").mkdir()
    assert keep(folder, restart=True) == [(0, 20)]
    assert keep(folder, restart=True) == [(0, 20)]
    with Parts(folder, SETTINGS, 20, restart=False) as parts:
        parts.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "results"]


def keep(folder, n=20, settings=SETTINGS, restart=False):
    with Parts(folder, settings, n, restart=restart) as parts:
        missing = parts.missing()
        if not parts.intervals():
            block(0, 5).save(folder)
        return missing


def test_resume_with_the_same_settings_or_more_showers(tmp_path):
    folder = tmp_path / "t.h5.parts"
    keep(folder)
    assert keep(folder) == [(5, 20)]
    assert keep(folder, n=30) == [(5, 30)]
    with pytest.raises(ConfigError, match="n: 30 then, 20 now"):
        keep(folder, n=20)
    assert keep(folder, restart=True) == [(0, 20)]


def test_resume_with_other_settings_is_refused(tmp_path):
    folder = tmp_path / "t.h5.parts"
    keep(folder)
    other = {"beam": {"energy": {"min": "10 GeV", "max": "100 GeV"}}, "seed": 4}
    with pytest.raises(ConfigError) as caught:
        keep(folder, settings=other)
    assert 'beam.energy.max: "500 GeV" then, "100 GeV" now' in str(caught.value)
    assert "seed: 3 then, 4 now" in str(caught.value)
    assert "--force" in str(caught.value)
    assert keep(folder) == [(5, 20)]


@pytest.mark.parametrize("text", ["", "[]", '{"n": 3}', '{"n": "x", "settings": {}, "facts": {}}'])
def test_damaged_manifest(tmp_path, text):
    folder = tmp_path / "t.h5.parts"
    keep(folder)
    (folder / MANIFEST).write_text(text)
    with pytest.raises(SimulationError, match="give --force"):
        keep(folder)
    assert keep(folder, restart=True) == [(0, 20)]


def test_one_campaign_at_a_time(parts):
    with pytest.raises(OutputError, match="another process writes"):
        keep(parts.folder)


def test_queue_hands_out_every_shower_once():
    queue = Queue([(0, 100), (150, 1000)], workers=2)
    taken = []
    while queue:
        task = queue.take()
        taken += range(*task.interval)
        if len(taken) == 40:
            queue.put_back(task)
            taken = taken[: -len(range(*task.interval))]
        queue.finished(task, 0.01 * len(range(*task.interval)))
    assert taken == [*range(100), *range(150, 1000)]


def test_blocks_suit_their_cost():
    queue = Queue([(0, 100_000)], workers=2)
    first = queue.take()
    assert first.interval == (0, 1)
    queue.finished(first, 2.0)
    start, stop = queue.take().interval
    assert 1 <= stop - start <= 3
    cheap = Queue([(0, 100_000)], workers=2)
    cheap.finished(cheap.take(), 1e-6)
    start, stop = cheap.take().interval
    assert stop - start == MAX_BLOCK


def test_blocks_are_multiples_of_a_unit():
    """But for the last one; so batches of a generator begin where they begin on one core."""
    queue, sizes = Queue([(0, 20_100)], 2, BlockSize(unit=128, most=2000)), []
    while queue:
        task = queue.take()
        sizes.append(task.interval[1] - task.interval[0])
        queue.finished(task, 1e-6)
    assert sum(sizes) == 20_100 and max(sizes) == 15 * 128
    assert [size % 128 for size in sizes] == [0] * (len(sizes) - 1) + [20_100 % 128]


def test_blocks_shrink_towards_the_end():
    queue = Queue([(0, 40)], workers=2)
    queue.finished(queue.take(), 1e-3)
    sizes = []
    while queue:
        start, stop = queue.take().interval
        sizes.append(stop - start)
    assert sizes == sorted(sizes, reverse=True)
    # 38 showers are left: a quarter of them for each of two workers, and so on
    assert sizes[0] == 10
    assert sizes[-1] == 1


def test_last_words():
    log = """chatter
-------- EEEE ------- G4Exception-START -------- EEEE -------
*** G4Exception : PART70000
      issued by : G4SomeClass::Method
 particle is not known
*** Fatal Exception *** core dump ***
 **** Track information is not available at this moment
-------- EEEE -------- G4Exception-END --------- EEEE -------
"""
    assert log_end(log) == "*** G4Exception : PART70000 issued by : G4SomeClass::Method particle is not known"
    assert log_end("a\n\nb\n c  d\ne\n") == "b | c d | e"
    assert log_end("") == ""
