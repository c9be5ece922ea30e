"""Batches for training: every shower once, the same order for any number of workers, ranks apart."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from caloforge.errors import ConfigError, DataError
from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.dataset import ShowerBatches

TOTAL = 1000
# one window of one batch, so that the small file has many windows in every lane
SMALL = 1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Showers whose energy is their number in the file plus one, in rising order."""
    path = tmp_path_factory.mktemp("dataset") / "showers.h5"
    # 16 x 16 x 25 cells: 20 showers a chunk, 50 chunks
    detector = load_detector("clic-ecal-25", ("mesh.nx=16", "mesh.ny=16"))
    number = np.arange(TOTAL)
    with ShowerWriter(path, detector, {}) as writer:
        writer.append(
            ShowerBatch(
                showers=np.broadcast_to(number[:, None, None, None], (TOTAL, *detector.shower_shape)),
                incident_energy=number + 1,
                incident_theta=np.full(TOTAL, np.pi / 2),
                incident_phi=number / TOTAL,
                pdg_id=np.where(number % 2, 11, 22),
            )
        )
    return path


def numbers(batches: ShowerBatches, workers: int = 0) -> list[list[int]]:
    """The showers of each batch, after a look that every column belongs to the same shower."""
    result = []
    for batch in DataLoader(batches, batch_size=None, num_workers=workers):
        number = batch.incident_energy.astype(int) - 1
        assert np.array_equal(batch.showers[:, 3, 7, 5], number)
        assert np.array_equal(batch.showers[:, -1, -1, -1], number)
        assert np.allclose(batch.incident_phi, number / TOTAL)
        assert np.array_equal(batch.pdg_id, np.where(number % 2, 11, 22))
        result.append(number.tolist())
    return result


def test_an_epoch_holds_every_shower_once(path: Path) -> None:
    batches = ShowerBatches(path, 10, seed=1)
    seen = numbers(batches)
    assert len(seen) == len(batches) == 100
    assert {len(batch) for batch in seen} == {10}
    assert sorted(chain(*seen)) == list(range(TOTAL))


@pytest.mark.parametrize("shuffle_bytes", [SMALL, 2**28])
def test_the_number_of_workers_does_not_matter(path: Path, shuffle_bytes: int) -> None:
    batches = ShowerBatches(path, 16, seed=1, shuffle_bytes=shuffle_bytes)
    batches.set_epoch(2)
    assert numbers(batches, workers=2) == numbers(batches, workers=0)


def test_each_epoch_and_seed_has_an_order_of_its_own(path: Path) -> None:
    batches = ShowerBatches(path, 16, seed=1)
    first = numbers(batches)
    batches.set_epoch(1)
    second = numbers(batches)
    assert first != second
    batches.set_epoch(0)
    assert numbers(batches) == first
    assert numbers(ShowerBatches(path, 16, seed=2)) not in (first, second)


def test_a_sorted_file_is_mixed(path: Path) -> None:
    # the mean of 20 numbers drawn from 0-999 scatters by 1000 / sqrt(12 * 20) = 65 around 500
    means = np.array([np.mean(batch) for batch in numbers(ShowerBatches(path, 20, seed=1))])
    assert abs(means - 499.5).max() < 4.5 * 65
    assert 40 < means.std() < 90


@settings(max_examples=15, deadline=None)
@given(
    batch_size=st.integers(2, 70),
    world_size=st.integers(1, 4),
    shuffle_bytes=st.sampled_from([SMALL, 2**21, 2**28]),
    bounds=st.tuples(st.integers(0, 300), st.integers(600, TOTAL)),
    epoch=st.integers(0, 3),
)
def test_ranks_share_the_range_and_nothing_is_dropped_or_doubled(
    path: Path,
    batch_size: int,
    world_size: int,
    shuffle_bytes: int,
    bounds: tuple[int, int],
    epoch: int,
) -> None:
    ranks = [
        ShowerBatches(
            path,
            batch_size,
            members=range(*bounds),
            seed=5,
            rank=rank,
            world_size=world_size,
            shuffle_bytes=shuffle_bytes,
        )
        for rank in range(world_size)
    ]
    seen = []
    for batches in ranks:
        batches.set_epoch(epoch)
        seen.append(numbers(batches))
    assert sorted(chain(*chain(*seen))) == list(range(*bounds))
    # every rank takes the same number of steps, with batches that differ by one shower at most
    assert {len(mine) for mine in seen} == {len(batches) for batches in ranks} == {len(seen[0])}
    sizes = np.array([[len(batch) for batch in mine] for mine in seen])
    assert sizes.min() >= 2
    assert sizes.max() <= batch_size + (batch_size == 2)
    assert sizes.max() - sizes.min() <= 1
    for step in range(0, len(seen[0]), 7):
        weights = [batches.weight(step) for batches in ranks]
        assert weights == pytest.approx(sizes[:, step] / sizes[:, step].mean())


@settings(max_examples=8, deadline=None)
@given(
    batch_size=st.integers(2, 60),
    begun=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=3),
    world_size=st.integers(1, 3),
    shuffle_bytes=st.sampled_from([SMALL, 2**21, 2**28]),
)
def test_an_epoch_is_continued_by_another_number_of_processes(
    path: Path, batch_size: int, begun: list[tuple[int, int]], world_size: int, shuffle_bytes: int
) -> None:
    """Of each earlier part only the first batches were trained on before the job ended."""
    seen: list[int] = []

    def run(ranks: int, earlier: list[tuple[int, int]], stop: int | None) -> int:
        for rank in range(ranks):
            batches = ShowerBatches(
                path, batch_size, seed=5, rank=rank, world_size=ranks, shuffle_bytes=shuffle_bytes
            )
            batches.set_epoch(2, earlier)
            done = numbers(batches)[:stop]
            seen.extend(chain(*done))
        return len(done)

    parts: list[tuple[int, int]] = []
    for ranks, stop in begun:
        parts.append((ranks, run(ranks, parts, stop)))
    run(world_size, parts, None)
    assert sorted(seen) == list(range(TOTAL))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("skipped", [0, 7, 62])
def test_skip_continues_in_the_middle(path: Path, workers: int, skipped: int) -> None:
    batches = ShowerBatches(path, 16, seed=1, shuffle_bytes=2**21)
    batches.set_epoch(3)
    whole = numbers(batches)
    batches.skip(skipped)
    assert numbers(batches, workers) == whole[skipped:]
    batches.set_epoch(3)
    assert numbers(batches) == whole


def test_without_shuffling_the_file_order_stays(path: Path) -> None:
    batches = ShowerBatches(path, 30, members=range(50, 333), shuffle=False)
    assert list(chain(*numbers(batches, workers=2))) == list(range(50, 333))


def test_a_window_is_all_that_is_read_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    read = ShowerFile.read

    def counting(self: ShowerFile, start: int = 0, stop: int | None = None) -> ShowerBatch:
        batch = read(self, start, stop)
        asked.append(len(batch))
        return batch

    monkeypatch.setattr(ShowerFile, "read", counting)
    next(iter(ShowerBatches(path, 20, seed=1, shuffle_bytes=SMALL)))
    assert sum(asked) == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 1001}, "1000 showers do not fill one batch of 1001"),
        ({"batch_size": 600, "world_size": 2}, "on 2 process"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 8, "rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"batch_size": 8, "members": range(10, 1001)}, "from 0 to 999, got 10 to 1000"),
        ({"batch_size": 8, "members": range(10, 10)}, "got none"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ShowerBatches(path, **arguments)


def test_skipping_too_far_and_a_missing_file_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot skip 101"):
        ShowerBatches(path, 10).skip(101)
    with pytest.raises(DataError, match="no such file"):
        ShowerBatches(tmp_path / "none.h5", 10)
