"""The public names and the keywords of every verb. A change here is one for users: say it in CHANGELOG.md."""

import inspect

import caloforge

CLASSES = {"CaloforgeError", "Detector", "RunConfig", "ShowerBatch", "ShowerFile", "ShowerWriter"}
SIGNATURES = {
    "benchmark": "*models, run=clic-electron, n=None, precision=validated, truth=None, cnn=False, "
    "all_cores=False, out=None, quick=False, seed=1, force=False, progress=True",
    "benchmark_resources": "run, *, data, truth, out, showers=None, seeds=3, set_=None, cnn=False, "
    "geant4=20, resume=False, progress=True",
    "benchmark_scaling": "run=demo, *, data=None, processes=None, steps=30, nodes=128, network=omni-path, "
    "per_node=1, out=None, seed=1, force=False, progress=True",
    "card": "model, *reports, benchmark=None, data=None, name=None",
    "check": "run, *, data=None, n=10000, set_=None",
    "cite": "",
    "config_schema": "",
    "config_show": "run, *, set_=None",
    "convert": "source, *, out, to, force=False, progress=True",
    "demo": "*, out=demo, train_showers=1500, test_showers=500, workers=None, seed=1, force=False, "
    "progress=True",
    "doctor": "",
    "export": "model, *, out, target=onnx, allow_large=False, force=False",
    "generate": "model, *, out=None, like=None, n=None, energy=None, theta=None, phi=None, particle=None, "
    "impact=None, seed=0, part=None, cluster=None, resume=False, batch_size=None, backend=auto, "
    "precision=auto, device=cpu, threads=None, extrapolate=False, allow_large=False, force=False, "
    "progress=True",
    "import_": "source, *more, out, format, detector=None, particle=None, dataset=None, binning=None, "
    "visible=False, force=False, progress=True",
    "init": "preset=None, *, from_=None, out=run.yaml, force=False",
    "inspect": "what, *more, out=None, set_=None",
    "join": "source, *more, out, when_complete=False, force=False, progress=True",
    "list_": "",
    "load_detector": "source, overrides=()",
    "load_model": "path, *, allow_large=False",
    "load_run": "source, overrides=()",
    "simulate": "run, *, n, out, workers=None, cluster=None, seed=None, part=None, resume=False, "
    "force=False, fast=None, threshold=None, acceptance=None, set_=None, progress=True",
    "simulate_events": "events, *, detector, out, fast=None, threshold=None, acceptance=None, "
    "distance=1.5 m, facing=x, field=0 T, contributions=particle, workers=None, cluster=None, seed=0, "
    "resume=False, force=False, set_=None, progress=True",
    "submit": "where, *command, nodes=1, array=None, processes=None, gpus=0, cpus=4, memory=16Gi, "
    "time=04:00:00, image=None, volume=None, env=None, secret=None, setup=None, name=None, sbatch=None, "
    "namespace=None, dashboard=None, print_=False",
    "train": "run, *, data, out, seed=None, resume=False, force=False, start=None, from_=None, "
    "set_=None, progress=True",
    "tune": "study, *, out, data=None, test=None, address=None, progress=True",
    "validate": "truth, generated, *more, out, thresholds=3dgan, classifier=True, truth2=None, "
    "training=None, reweight=False, threshold=None, neural=None, repeats=1, triforce=None, protocol=None, "
    "pdf=True, seed=0, workers=None, force=False, allow_undecided=False, progress=True",
}


def described(function):
    parts, starred = [], False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        if parameter.kind is parameter.VAR_POSITIONAL:
            parts.append(f"*{name}")
            starred = True
        else:
            parts.append(name if parameter.default is parameter.empty else f"{name}={parameter.default}")
    return ", ".join(parts)


def test_the_public_names():
    assert set(caloforge.__all__) == CLASSES | set(SIGNATURES) | {"__version__", "plot"}
    assert dir(caloforge) == sorted(caloforge.__all__)


def test_the_keywords_of_every_function():
    assert {name: described(getattr(caloforge, name)) for name in SIGNATURES} == SIGNATURES


def test_every_public_name_is_documented():
    for name in CLASSES | set(SIGNATURES):
        assert getattr(caloforge, name).__doc__, name


def test_another_name_does_not_exist():
    assert not hasattr(caloforge, "nothing")


def test_the_pictures():
    assert {name: described(getattr(caloforge.plot, name)) for name in caloforge.plot.__all__} == {
        "compare": "left, right, titles=('left', 'right'), *, detector=None",
        "detector": "source",
        "energies": "path",
        "mean_shower": "showers, *, detector=None",
        "profiles": "showers, *, detector=None",
        "shower": "showers, index=0, *, detector=None",
    }
