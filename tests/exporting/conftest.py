import functools
import shutil

import pytest
from small_models import small_model

import caloforge
from caloforge.models.store import save_model


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A function that saves a small model and returns its directory."""

    @functools.cache
    def save(**options):
        folder = tmp_path_factory.mktemp("model") / "model"
        model = small_model(**options)
        return save_model(model, folder, model.state_dict())

    return save


@pytest.fixture(scope="session")
def exported(stored, tmp_path_factory):
    """A function that exports a small model and returns the folder, which must not be changed."""

    @functools.cache
    def export(target, **options):
        out = tmp_path_factory.mktemp("export") / target
        caloforge.export(stored(**options), out=out, target=target)
        return out

    return export


@pytest.fixture
def copied(exported, tmp_path):
    """A function that exports a small model to a folder that may be changed."""
    return lambda target, **options: shutil.copytree(exported(target, **options), tmp_path / target)
