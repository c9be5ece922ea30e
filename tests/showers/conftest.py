import pytest
from small_showers import MESHES, make_batch, make_detector, write


@pytest.fixture(params=sorted(MESHES))
def any_detector(request):
    return make_detector(request.param)


@pytest.fixture
def detector():
    return make_detector()


@pytest.fixture
def shower_file(tmp_path, detector):
    """A small, good shower file."""
    return write(tmp_path / "showers.h5", detector, make_batch(detector, 20))
