"""HDF5 files that are wrong: by their structure, each with a name, and by bytes changed at random."""

import json

import h5py
import numpy as np

from caloforge.geometry import load_detector
from caloforge.showers import ShowerBatch, ShowerWriter

DETECTOR = load_detector("clic-ecal-25", ("mesh.nx=5", "mesh.ny=5"))
N = 12
FORMATS = {
    "shower": ["inspect", "{}"],
    "3dgan": ["import", "{}", "-o", "{}.out", "--format", "3dgan", "--particle", "e-", "--no-progress"],
    "calochallenge": ["import", "{}", "-o", "{}.out", "--format", "calochallenge", "--no-progress"],
    "par04": ["import", "{}", "-o", "{}.out", "--format", "par04", "--particle", "e-", "--no-progress"],
    "showerdata": ["import", "{}", "-o", "{}.out", "--format", "showerdata", "--no-progress", "--detector",
                   "clic-ecal-25"],
}  # fmt: skip


def arguments(kind, path):
    return [word.replace("{}", str(path)) for word in FORMATS[kind]]


def valid(kind, path, libver="v110"):
    """A small file of a format."""
    rng = np.random.default_rng(1)
    if kind == "shower":
        shape = (N, *DETECTOR.shower_shape)
        columns = [np.full(N, 1e4), np.full(N, np.pi / 2), np.zeros(N), np.full(N, 11), np.full(N, 2.0)]
        with ShowerWriter(path, DETECTOR, {"engine": "made up"}, with_seconds=True) as writer:
            writer.append(ShowerBatch(rng.exponential(0.3, shape), *columns))
        return path
    with h5py.File(path, "w", libver=libver) as file:
        for name, values in VALUES[kind](rng).items():
            if isinstance(values, list):
                rows = file.create_dataset(name, (len(values),), h5py.vlen_dtype(np.float32))
                for number, row in enumerate(values):
                    rows[number] = row
            elif values.ndim > 1 and len(values) == N:
                file.create_dataset(name, data=values, chunks=(2, *values.shape[1:]), compression="gzip")
            else:
                file[name] = values
        file.attrs["pdg_id"] = 11
        file.attrs["note"] = "a text"
    return path


def threedgan(rng):
    return {
        "ECAL": rng.exponential(1e-4, (N, 25, 25, 25)).astype(np.float32),
        "target": np.stack([np.full(N, 11.0), np.full(N, 100.0)], axis=1),
    }


def calochallenge(rng):
    return {"incident_energies": np.full((N, 1), 400.0), "showers": rng.exponential(1, (N, 368))}


def par04(rng):
    return {
        "showers": rng.exponential(1, (N, 9, 16, 45)).astype(np.float32),
        "incident_energy": np.full(N, 2e5, np.float32),
        "incident_theta": np.full(N, 1.5, np.float32),
        "incident_phi": np.zeros(N, np.float32),
    }


def showerdata(rng):
    points = [[[rng.uniform(-20, 20), rng.uniform(-20, 20), layer, 0.01] for layer in range(20)]] * N
    return {
        "showers": [np.float32(shower).ravel() for shower in points],
        "energies": np.full((N, 1), 10, np.float32),
        "directions": np.tile(np.float32([0, 0, 1]), (N, 1)),
        "pdg": np.full(N, 11, np.int32),
    }


VALUES = {
    "3dgan": threedgan,
    "calochallenge": calochallenge,
    "par04": par04,
    "showerdata": showerdata,
}


# ---- wrong by structure


def replaced(name, values=None, **options):
    def change(file):
        del file[name]
        if values is None:
            file.create_dataset(name, **options)
        else:
            file.create_dataset(name, data=values, **options)

    return change


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def detector(**changes):
    """A detector that is not what the showers are of."""
    document = json.loads(DETECTOR.to_json()) | changes
    return attribute("detector", json.dumps(document))


def time_type(name):
    """A data set of HDF5's type for times, which numpy has no name for."""

    def change(file):
        del file[name]
        space = h5py.h5s.create_simple((N,))
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.UNIX_D32LE, space)

    return change


def filtered(name, number):
    """A data set behind a filter that is not there."""

    def change(file):
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(shape)
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
        h5py.h5d.create(
            file.id, name.encode(), h5py.h5t.py_create(dtype), h5py.h5s.create_simple(shape), plist
        )

    return change


def impacts(*columns):
    return lambda file: file.update(dict(zip(("impact_x", "impact_y"), columns, strict=False)))


def many_groups(file):
    for number in range(3000):
        file.create_group(f"g{number}")
    del file["pdg_id"]


def circle(file):
    group = file.create_group("circle")
    group["again"] = group
    del file["showers"]
    file["showers"] = group


SPARSE = {"shape": (N, *DETECTOR.shower_shape), "dtype": "f4"}
RAGGED = {"kind": "ragged", "layers": [{"id": 0, "r_edges": ["0 mm", "1 mm"], "nphi": 4096}] * 60_000}
# a name of what is wrong -> a kind of file and the change to it
STRUCTURES = {
    "one chunk of 8 GB": (
        "shower", replaced("showers", maxshape=(None,) * 4, chunks=(1400, 250, 250, 25), **SPARSE)
    ),
    "showers for terabytes": (
        "shower", replaced("showers", shape=(10**9, *DETECTOR.shower_shape), dtype="f4", chunks=(1, 5, 5, 5))
    ),
    "a column of 10^12": ("shower", replaced("incident_energy", shape=(10**12,), dtype="f4", chunks=(1000,))),
    "columns for 10^9 showers": ("shower", lambda file: [
        replaced(name, shape=(10**9, *file[name].shape[1:]), dtype="f4", chunks=(1, *file[name].shape[1:]),
                 fillvalue=1.0)(file) for name in list(file)]),
    "a ragged mesh of 245 million voxels": ("shower", detector(layers=[], mesh=RAGGED)),
    "pdg_id 0": ("shower", lambda file: file["pdg_id"].__setitem__(slice(None), 0)),
    "text where numbers belong": ("shower", replaced("pdg_id", np.array([b"e-"] * N))),
    "a compound type": ("shower", replaced("pdg_id", np.zeros(N, "i4,f4"))),
    "an array type": ("shower", replaced("pdg_id", np.zeros(N, np.dtype(("i4", (2,))))[:, 0:0])),
    "rows of different lengths": ("shower", replaced("pdg_id", shape=(N,), dtype=h5py.vlen_dtype("i4"))),
    "references": ("shower", replaced("pdg_id", shape=(N,), dtype=h5py.ref_dtype)),
    "times": ("shower", time_type("pdg_id")),
    "complex numbers": ("shower", replaced("incident_phi", np.zeros(N, "c8"))),
    "impact points of NaN": ("shower", impacts(np.full(N, np.nan), np.zeros(N))),
    "impact points of another length": ("shower", impacts([1.0], np.zeros(N))),
    "impact points beside the cell": ("shower", impacts(np.ones(N), np.full(N, 99.0))),
    "one impact point of two": ("shower", impacts(np.zeros(N))),
    "impact points of text": ("shower", impacts([b"x"] * N, [b"y"] * N)),
    "a null space": ("shower", lambda file: (file.__delitem__("pdg_id"),
                                             file.create_dataset("pdg_id", data=h5py.Empty("f4")))),
    "a list of formats": ("shower", attribute("format", ["caloforge-showers"] * 2)),
    "numbers for the detector": ("shower", attribute("detector", np.arange(9))),
    "an empty detector": ("shower", attribute("detector", h5py.Empty("S1"))),
    "a detector of null": ("shower", attribute("detector", "null")),
    "a detector of deep lists": ("shower", attribute("detector", "[" * 30_000)),
    "NaN in the detector": ("shower", detector(width="nan mm")),
    "an array of versions": ("shower", attribute("format_version", [1, 1])),
    "a meaning of bytes": ("shower", attribute("energy_meaning", np.void(b"\xff\xfe"))),
    "provenance that is a number": ("shower", attribute("provenance", 3.5)),
    "a circle of groups": ("shower", circle),
    "3000 groups": ("shower", many_groups),
    "a link to itself": ("shower", lambda file: (file.__delitem__("showers"),
                                                 file.__setitem__("showers", h5py.SoftLink("/showers")))),
    "Blosc": ("shower", filtered("showers", 32001)),
    "an unknown filter": ("shower", filtered("showers", 31999)),
    "energies of 0": ("shower", lambda file: file["incident_energy"].__setitem__(slice(None), 0)),
    "NaN": ("shower", lambda file: file["showers"].__setitem__((3, 2, 1, 0), np.nan)),
    "Zstandard": ("calochallenge", filtered("showers", 32015)),
    "a list of particles": ("calochallenge", attribute("pdg_id", [[11, 22], [1, 2]])),
    "a meaning that is a list": ("calochallenge", attribute("energy_meaning", ["visible", "visible"])),
    "energies that are times": ("calochallenge", time_type("incident_energies")),
    "a chunk for terabytes": ("calochallenge", replaced(
        "showers", shape=(N, 368), maxshape=(None, None), dtype="f8", chunks=(10**6, 500))),
    "energies for terabytes": ("calochallenge", replaced("incident_energies", shape=(10**12, 1), dtype="f8",
                                                         chunks=(1000, 1))),
    "images for terabytes": ("3dgan", replaced("ECAL", shape=(10**8, 25, 25, 25), dtype="f4",
                                               chunks=(1, 25, 25, 25))),
    "images that are a group": ("3dgan", lambda file: (file.__delitem__("ECAL"), file.create_group("ECAL"))),
    "targets of one number": ("3dgan", replaced("target", np.float64(3))),
    "shapes of 0": ("par04", replaced("showers", np.zeros((N, 9, 0, 45)))),
    "infinite energies": ("par04", replaced("incident_energy", np.full(N, np.inf))),
    "directions of text": ("showerdata", replaced("directions", np.array([[b"x"] * 3] * N))),
    "points of bytes": ("showerdata", replaced("showers", shape=(N,), dtype=h5py.vlen_dtype("S3"))),
    "points of nothing": ("showerdata", replaced("showers", shape=(N,), dtype=h5py.vlen_dtype("f4"))),
    "a shape of billions": ("showerdata", lambda file: file.__setitem__("shape", [10**9] * 3)),
}  # fmt: skip


def make_structure(label, path):
    kind, change = STRUCTURES[label]
    valid(kind, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return kind


# ---- wrong by bytes


def damaged(rng, content, tables):
    """Bytes of a file with a few of them changed; mostly in HDF5's tables, not in the showers."""
    data = bytearray(content)
    what = rng.integers(8)
    if what == 0:
        return bytes(data[: rng.integers(1, len(data))])
    for _ in range(rng.integers(1, 6)):
        place = int(rng.choice(tables)) if what < 7 else int(rng.integers(len(data)))
        if what < 4:
            data[place] ^= 1 << rng.integers(8)
        elif what == 4:
            data[place] = int(rng.choice([0, 1, 127, 128, 255]))
        else:
            # a length or an address of eight bytes
            values = [0, 8, 96, len(data) - 1, len(data), 2**31, 2**63 - 1, 2**64 - 1, place]
            value = values[rng.integers(len(values))]
            data[place : place + 8] = value.to_bytes(8, "little")
    return bytes(data[: len(content)])


def places_of_tables(path):
    """Offsets outside the chunks of the showers."""
    size = path.stat().st_size
    free = np.ones(size, bool)
    with h5py.File(path) as file:
        for dataset in file.values():
            if dataset.chunks is None:
                continue
            for index in range(dataset.id.get_num_chunks()):
                chunk = dataset.id.get_chunk_info(index)
                free[chunk.byte_offset : chunk.byte_offset + chunk.size] = False
    # addresses and lengths lie at multiples of bytes that are not 0 around them
    return np.flatnonzero(free)
