"""What every foreign format must do; see `caloforge.showers.converters.Converter`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from caloforge.errors import CaloforgeError
from caloforge.geometry import Detector
from caloforge.showers import ShowerBatch, ShowerFile, ShowerWriter
from caloforge.showers.converters import export_file, import_file

SHOWERS = 20


def check_format(name: str, detector: Detector, *, particle: str | None = "e-") -> None:
    """The contract of a foreign format, by the name it is registered under.

    Showers that are written and read again are the same, up to float32 rounding, with their conditions and in
    their order; two files are appended; progress reaches the total; what is no such file is refused with an
    error of caloforge, and leaves no output.

    Args:
        name: The format.
        detector: A detector whose showers it can hold.
        particle: What `import --particle` is given; None where the files say it.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        showers = _made_up(detector)
        with ShowerWriter(folder / "own.h5", detector, {}) as writer:
            writer.append(showers)
        seen: list[tuple[int, int]] = []
        foreign = export_file(
            folder / "own.h5", folder / "foreign", format=name, progress=lambda *state: seen.append(state)
        )
        assert foreign.is_file(), "nothing was written"
        assert seen[-1] == (SHOWERS, SHOWERS), f"writing ended at the progress {seen[-1]}"
        back = import_file(
            [foreign, foreign], folder / "back.h5", format=name, detector=detector, particle=particle
        )
        with ShowerFile(back) as file:
            _check_same(showers, file.read())
        _check_refused(name, foreign, detector, particle)


def _made_up(detector: Detector) -> ShowerBatch:
    """Scattered deposits, a fiftieth of the incident energy in sum."""
    rng = np.random.default_rng(1)
    energy = rng.uniform(1e4, 1e5, SHOWERS).astype(np.float32)
    cells = rng.exponential(1.0, (SHOWERS, *detector.shower_shape)).astype(np.float32)
    cells *= rng.random(cells.shape) < 0.2
    flat = cells.reshape(SHOWERS, -1)
    flat *= (energy / 50 / flat.sum(axis=1))[:, None]
    angle = np.full(SHOWERS, np.pi / 2, np.float32)
    return ShowerBatch(cells, energy, angle, np.zeros_like(angle), np.full(SHOWERS, 11, np.int32))


def _check_same(showers: ShowerBatch, back: ShowerBatch) -> None:
    assert len(back) == 2 * SHOWERS, f"two files of {SHOWERS} showers came back as {len(back)}"
    for part in (back[:SHOWERS], back[SHOWERS:]):
        assert part.showers.shape == showers.showers.shape, f"showers came back as {part.showers.shape}"
        for name in ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id"):
            want, got = getattr(showers, name), getattr(part, name)
            assert np.allclose(want, got, rtol=1e-5, atol=1e-5), f"{name} came back changed"


def _check_refused(name: str, foreign: Path, detector: Detector, particle: str | None) -> None:
    damaged, out = foreign.with_name("damaged"), foreign.with_name("none.h5")
    content = foreign.read_bytes()
    for what, data in (("half a file", content[: len(content) // 2]), ("a text", b"no showers\n")):
        damaged.write_bytes(data)
        try:
            import_file([damaged], out, format=name, detector=detector, particle=particle)
        except CaloforgeError:
            assert not out.exists(), f"{what} is refused, and leaves an output"
            continue
        except Exception as error:
            raise AssertionError(f"{what} is not refused but fails: {error!r}") from error
        raise AssertionError(f"{what} is not refused")
