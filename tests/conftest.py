"""What tests of several areas use."""

import itertools
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many processes as cores: more threads in each would only wait for each other; torch reads it once
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

# written by scripts/write_test_showers.py
DATA = Path(__file__).parent / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run the whole suite in one process per core, where pytest-xdist is installed.

    Named files and folders run in one process, which starts sooner; so does everything with `-n 0`, `-s` or
    `--pdb`.
    """
    option, cores = config.option, min(len(os.sched_getaffinity(0)), 8)
    whole = config.args_source is not config.ArgsSource.ARGS and not hasattr(config, "workerinput")
    seen = option.capture == "no" or option.usepdb
    if whole and not seen and cores > 1 and getattr(option, "numprocesses", 0) is None:
        # not "auto", which counts physical cores
        option.numprocesses, option.dist = cores, "worksteal"


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """A working directory of the tests' own: what `make demo` leaves where pytest starts must not matter."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture
def assert_readable():
    """A check that no text of a figure is cut or overlaps another; it returns the texts."""
    return _assert_readable


def _assert_readable(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in _texts(figure) if text.get_visible() and text.get_text().strip()]
    # of the text alone, without the arrow of an annotation
    boxes = [(text.get_text(), Text.get_window_extent(text, canvas.get_renderer())) for text in texts]
    width, height = canvas.get_width_height()
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (
            f"{text!r} is cut"
        )
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        # boxes hold a little air
        across, along = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1.5 or along <= 1.5, f"{first!r} and {second!r} overlap"
    return [text for text, _ in boxes]


def _texts(figure):
    yield from figure.texts
    pending = list(figure.axes)
    while pending:
        axes = pending.pop()
        if not axes.axison:
            yield from axes.texts
            yield from axes.get_legend().get_texts() if axes.get_legend() else ()
            continue
        pending += axes.child_axes
        yield from (*axes.texts, axes.title, axes._left_title, axes._right_title)
        yield from axes.get_legend().get_texts() if axes.get_legend() else ()
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_visible():
                yield axis.label
                # ticks beyond the limits exist but are not drawn
                low, high = sorted(axis.get_view_interval())
                slack = 1e-6 * (high - low)
                for tick in axis.get_major_ticks():
                    if low - slack <= tick.get_loc() <= high + slack:
                        yield from (tick.label1, tick.label2)


@pytest.fixture(scope="session")
def electrons():
    """400 Geant4 electrons of `clic-electron`; no released model was trained on them."""
    return DATA / "clic-electrons.h5"


@pytest.fixture(scope="session")
def photons():
    """100 Geant4 photons of the same beam in the same detector."""
    return DATA / "clic-photons.h5"


@pytest.fixture(scope="session")
def truth():
    """4500 Geant4 electrons of an independent application, for what 400 cannot decide."""
    path = Path(__file__).parents[2] / "shared/truth/clic_electron_orthogonal.h5"
    if not path.is_file():
        pytest.skip("needs the 4500 showers of ../shared/truth: the 400 of tests/data are too few for it")
    return path
