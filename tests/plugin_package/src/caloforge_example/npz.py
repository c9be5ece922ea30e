import zipfile

import numpy as np

from caloforge.errors import ConfigError, DataError
from caloforge.files import replacing
from caloforge.showers import ShowerBatch
from caloforge.showers.converters.common import Source

COLUMNS = ("showers", "incident_energy", "incident_theta", "incident_phi", "pdg_id")


def read(path):
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return ShowerBatch(
                arrays["showers"],
                arrays["incident_energy"],
                arrays["incident_theta"],
                arrays["incident_phi"],
                arrays["pdg_id"],
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a file of showers in npz ({error})") from error


def open_npz(paths, detector, particle):
    if detector is None:
        raise ConfigError("npz: give --detector, which the files do not name")
    batches = [read(path) for path in paths]
    for path, batch in zip(paths, batches, strict=True):
        if batch.showers.shape[1:] != detector.shower_shape:
            raise DataError(f"{path}: showers of {batch.showers.shape[1:]}, expected {detector.shower_shape}")
    return Source(detector, "visible", sum(map(len, batches)), {}, iter(batches))


def write_npz(showers, out, *, force, progress):
    batch = showers.read()
    with replacing(out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **{name: getattr(batch, name) for name in COLUMNS})
    if progress is not None:
        progress(len(batch), len(batch))
