"""Event files: HepMC 2 and 3, units, compression, EDM4hep, damage; and the way to the face."""

import gzip
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from event_files import particle, write_hepmc

from caloforge.errors import DataError
from caloforge.fastsim.events.hits import Cells, Source, collect, decode
from caloforge.fastsim.events.reading import EventReader, check_events, read_events
from caloforge.fastsim.events.transport import ROTATIONS, Face, Kind, primaries
from caloforge.fastsim.plate import plate_of
from caloforge.geometry import load_detector

SHARED = Path(__file__).parents[3] / "shared/events"
EVENTS = [
    [particle(11, 50.0, 1.0, -2.0, at=(1.0, 2.0, 3.0)), particle(22, 0.0, 5.0, 0.0)],
    [particle(111, 20.0)],
    [particle(22, 3.0), particle(13, -4.0), particle(12, 1.0)],
]
KINDS = {
    11: Kind(0.511, -1.0, False, False),
    22: Kind(0.0, 0.0, False, False),
    111: Kind(134.98, 0.0, True, True),
    211: Kind(139.57, 1.0, True, False),
    12: Kind(0.0, 0.0, False, False),
}


def same(one, two):
    assert [len(event) for event in one] == [len(event) for event in two]
    for a, b in zip(one, two, strict=True):
        for name, column in a.columns.items():
            np.testing.assert_allclose(column, b.columns[name], rtol=1e-6, atol=1e-9, err_msg=name)
        assert a.parents.lists() == b.parents.lists()
        assert a.daughters.lists() == b.daughters.lists()


def test_hepmc(tmp_path):
    path = write_hepmc(tmp_path / "e.hepmc", EVENTS)
    events = list(read_events(path))
    assert [event.number for event in events] == [100, 101, 102]
    first = events[0]
    final = first.columns["generatorStatus"] == 1
    assert first.columns["PDG"][final].tolist() == [11, 22]
    np.testing.assert_allclose(first.vectors("momentum")[final], [[50, 1, -2], [0, 5, 0]])
    np.testing.assert_allclose(first.vectors("vertex")[final], [[1, 2, 3], [0, 0, 0]])
    [electron] = np.flatnonzero(first.columns["PDG"] == 11)
    [mother] = first.parents.lists()[electron]
    assert first.columns["PDG"][mother] == 23
    assert first.daughters.lists()[mother] == [electron]


@pytest.mark.parametrize("options", [{"units": "MEV"}, {"format": "hepmc2"}])
def test_units_and_versions(tmp_path, options):
    expected = list(read_events(write_hepmc(tmp_path / "e.hepmc", EVENTS)))
    same(expected, list(read_events(write_hepmc(tmp_path / "f.hepmc", EVENTS, **options))))


@pytest.mark.parametrize("name", ["e.hepmc.gz", "compressed.hepmc"])
def test_compressed(tmp_path, name):
    path = write_hepmc(tmp_path / "e.hepmc", EVENTS)
    (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    same(list(read_events(path)), list(read_events(tmp_path / name)))


def test_reader_reads_any_interval(tmp_path):
    path = write_hepmc(tmp_path / "e.hepmc", EVENTS)
    reader = EventReader(path)
    for start, stop in ((1, 2), (2, 3), (0, 3), (0, 1), (2, 3)):
        assert [event.number - 100 for event in reader.read(start, stop)] == list(range(start, stop))
    with pytest.raises(DataError, match="has 3 events, 5 were there before"):
        reader.read(3, 5)


def damage(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("format_", ["hepmc3", "hepmc2"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(tmp_path, format_, share, capfd):
    data = write_hepmc(tmp_path / "e.hepmc", EVENTS, format=format_).read_bytes()
    # HepMC3 calls version 2 outdated
    capfd.readouterr()
    cut = data[: int(share * len(data))]
    with pytest.raises(DataError, match="truncated, its end mark is missing"):
        check_events(damage(tmp_path / "cut.hepmc", cut))
    with pytest.raises(DataError, match=r"cut.hepmc.gz: cannot be read after event \d"):
        check_events(damage(tmp_path / "cut.hepmc.gz", gzip.compress(data)[:-12]))
    assert capfd.readouterr() == ("", "")


def test_an_event_that_cannot_be_read_is_named(tmp_path, capfd):
    text = write_hepmc(tmp_path / "e.hepmc", EVENTS).read_text()
    # a number of the second event
    at = text.index("\nP ", text.index("\nE 101"))
    broken = text[: at + 3] + "x" + text[at + 4 :]
    with pytest.raises(DataError, match="event 2 of 3 cannot be read"):
        check_events(damage(tmp_path / "broken.hepmc", broken.encode()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a HepMC file"),
        (b"<LesHouchesEvents>\n", "not a HepMC file in ASCII"),
        (b"root" + bytes(200), "no EDM4hep file, or a damaged one"),
        (b"HepMC::Asciiv3-START_EVENT_LISTING\nHepMC::Asciiv3-END_EVENT_LISTING\n", "no events"),
    ],
)
def test_foreign_files(tmp_path, data, words):
    with pytest.raises(DataError, match=words):
        check_events(damage(tmp_path / "e", data))


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read .No such file"):
        check_events(tmp_path / "none.hepmc")
    with pytest.raises(DataError, match=r"cannot be read .Is a directory"):
        check_events(tmp_path)


@pytest.mark.parametrize(
    ("name", "count", "finals"), [("g4pythia.hepmc", 10, 2709), ("ZH250_ISR.edm4hep.root", 3, 324)]
)
def test_files_of_others(name, count, finals):
    if not (SHARED / name).is_file():
        pytest.skip("needs ../shared/events")
    events = list(read_events(SHARED / name))
    assert len(events) == count
    assert sum(int((event.columns["generatorStatus"] == 1).sum()) for event in events) == finals
    # parents and daughters are the same relation
    for event in events:
        pairs = {(p, i) for i, own in enumerate(event.parents.lists()) for p in own}
        assert pairs == {(i, d) for i, own in enumerate(event.daughters.lists()) for d in own}


def test_truncated_root_files(tmp_path):
    if not (SHARED / "ZH250_ISR.edm4hep.root").is_file():
        pytest.skip("needs ../shared/events")
    data = (SHARED / "ZH250_ISR.edm4hep.root").read_bytes()
    for share in (0.2, 0.6):
        with pytest.raises(DataError, match=r"damaged|cannot be read"):
            check_events(damage(tmp_path / "cut.root", data[: int(share * len(data))]))
    shutil.copy(SHARED / "edm4hep.root", tmp_path / "foreign.root")
    with pytest.raises(DataError, match="expected the MCParticles of EDM4hep"):
        check_events(tmp_path / "foreign.root")


# ---- to the face


@pytest.mark.parametrize("facing", ROTATIONS)
def test_frames(facing):
    face = Face(facing, 1500.0, 1000.0)
    axis = np.zeros(3)
    axis["xyz".index(facing[-1])] = -1.0 if facing[0] == "-" else 1.0
    np.testing.assert_allclose(face.to_local(1500.0 * axis[None]), [[0, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(face.rotated(axis[None]), [[0, 0, 1]])
    if facing[-1] != "z":
        # the beam is the axis that theta is measured from
        np.testing.assert_allclose(face.rotated(np.array([[0.0, 0.0, 1.0]])), [[0, 1, 0]])
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 60.0]])
    np.testing.assert_allclose(face.to_event(face.to_local(points)), points)
    np.testing.assert_allclose(face.rotated_back(face.rotated(points)), points)


def started(tmp_path, particles, **options):
    [event] = read_events(write_hepmc(tmp_path / "e.hepmc", [particles]))
    given = {"hadronic": False, "space": 2500.0} | options
    face = given.pop("face", Face("x", 1500.0, 1000.0))
    chosen, others = primaries(event, face, KINDS.get, **given)
    return event, chosen, {reason: count for reason, (count, _) in others.items()}


def test_a_particle_starts_before_the_face_and_in_time(tmp_path):
    event, [one], others = started(tmp_path, [particle(11, 30.0, 3.0, -6.0, at=(10.0, 20.0, 30.0))])
    assert others == {}
    assert event.columns["PDG"][one.particle] == 11
    # x, y, z of the calorimeter are y, z, x of the event
    unit = np.array([3.0, -6.0, 30.0]) / math.sqrt(945)
    np.testing.assert_allclose(one.direction, unit, rtol=1e-6)
    path = 1490.0 / unit[2] - 1.0
    np.testing.assert_allclose(one.position, np.array([20.0, 30.0, -1490.0]) + path * unit)
    assert one.time == pytest.approx(path / 299.792458, rel=1e-6)
    assert one.kinetic == pytest.approx(math.sqrt(945e6 + 0.511**2) - 0.511, rel=1e-6)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (particle(11, -5.0), "missed"),
        (particle(11, 0.0, 5.0), "missed"),
        (particle(11, 5.0, 2.0), "missed"),
        (particle(11, 5.0, at=(1600.0, 0.0, 0.0)), "missed"),
        (particle(12, 5.0), "invisible"),
        (particle(211, 5.0), "hadron"),
        (particle(211, -5.0), "missed"),
        (particle(9900012, 5.0), "unknown"),
        (particle(11, 0.0), "unusable"),
        (particle(11, math.nan), "unusable"),
        (particle(11, math.inf, 1.0), "unusable"),
        (particle(22, 5.0, at=(math.nan, 0.0, 0.0)), "unusable"),
        (particle(111, 5.0, at=(9000.0, 0.0, 0.0)), "missed"),
    ],
)
def test_every_final_particle_is_counted(tmp_path, one, reason):
    _, chosen, others = started(tmp_path, [one, particle(22, 7.0), particle(22, 8.0, status=2)])
    assert others == {reason: 1}
    assert [p.pdg_id for p in chosen] == [22]


def test_a_particle_that_decays_at_once_starts_at_its_vertex(tmp_path):
    _, [one], _ = started(tmp_path, [particle(111, -3.0, 1.0, at=(100.0, 0.0, 0.0))])
    np.testing.assert_allclose(one.position, [0, 0, -1400])
    _, [pion], _ = started(tmp_path, [particle(211, 5.0)], hadronic=True)
    assert pion.pdg_id == 211


def test_a_helix_is_a_circle_across_the_field(tmp_path):
    """In 4 T an electron of 3 GeV turns on a radius of 3 / (0.2998 * 4) m."""
    radius = 3e3 / (0.299792458 * 4)
    _, [one], _ = started(tmp_path, [particle(11, 3.0)], face=Face("x", 1500.0, 1500.0, 4.0))
    # dp/dt = q v x B: along -v x z for an electron, which is +y of the event, x of the calorimeter
    away = radius - math.sqrt(radius**2 - 1500**2)
    assert one.position[0] == pytest.approx(away, abs=1.0)
    assert one.position[1] == pytest.approx(0, abs=1e-6)
    assert one.position[2] == pytest.approx(-math.cos(math.asin(1500 / radius)), abs=0.01)
    assert math.atan2(one.direction[0], one.direction[2]) == pytest.approx(math.asin(1500 / radius), abs=1e-3)
    assert one.time * 299.792458 == pytest.approx(radius * math.asin(1500 / radius) - 1, rel=1e-6)
    _, [other], _ = started(tmp_path, [particle(11, 3.0)], face=Face("x", 1500.0, 1500.0, -4.0))
    assert other.position[0] == pytest.approx(-one.position[0])
    # too soft to reach the face, and what has no charge
    _, neutral, others = started(
        tmp_path, [particle(11, 0.5), particle(22, 0.5)], face=Face("x", 1500.0, 1500.0, 4.0)
    )
    assert others == {"missed": 1}
    assert neutral[0].direction == (0, 0, 1)


def test_a_helix_along_the_field(tmp_path):
    face = Face("z", 2000.0, 1000.0, 2.0)
    _, [one], _ = started(tmp_path, [particle(11, 0.1, 0.0, 2.0)], face=face)
    size = math.sqrt(0.01 + 4) * 1e3
    radius = 100.0 / (0.299792458 * 2)
    path = 2000.0 * size / 2000.0 - 1
    angle = 0.299792458 * 2 * path / size
    assert one.position[2] == pytest.approx(path * 2000.0 / size - 2000.0)
    assert math.hypot(*one.position[:2]) == pytest.approx(2 * radius * abs(math.sin(angle / 2)), rel=1e-6)
    assert math.hypot(*one.direction) == pytest.approx(1)
    assert one.direction[2] == pytest.approx(2000.0 / size)


# ---- hits


def test_hits_and_contributions():
    plate = plate_of(load_detector("clic-ecal-25", ("mesh.nx=3", "mesh.ny=3", "width=15 mm")))
    cells = Cells(plate)
    sources = [
        Source(4, False, np.array([7, 0]), np.array([2.0, 0.0004]), (0.0, 0.0, 0.0), 5.0),
        Source(9, True, np.array([0, 30, 7]), np.array([0.0005, 1.0, 3.0]), (0.0, 0.0, -10.0), 5.0),
    ]
    hits, lost = collect(sources, cells, 0.001)
    assert hits["cell"].tolist() == [7, 30]
    assert hits["energy"].tolist() == [5.0, 1.0]
    assert hits["ends"].tolist() == [2, 3]
    assert hits["particle"].tolist() == [4, 9, 9]
    assert hits["share"].tolist() == [2.0, 3.0, 1.0]
    assert hits["length"].tolist() == [0.0, -1.0, -1.0]
    assert lost == pytest.approx(0.0009)
    # cell 7 is layer 0, row 2, column 1: its centre is 2.65 mm deep and 5 mm along y
    assert hits["when"][0] == pytest.approx(5 + math.hypot(2.65, 5.0) / 299.792458, rel=1e-6)
    assert hits["time"][0] == hits["when"][0]
    layer, row, column = decode(cells.ids(hits["cell"].astype(np.int64)))
    assert (layer.tolist(), row.tolist(), column.tolist()) == ([0, 3], [2, 1], [1, 0])


def test_no_particle_leaves_no_hit():
    plate = plate_of(load_detector("clic-ecal-25", ("mesh.nx=3", "mesh.ny=3", "width=15 mm")))
    hits, lost = collect([], Cells(plate), 0.001)
    assert all(len(column) == 0 for column in hits.values())
    assert lost == 0
