"""Backends make torch's showers; which one runs is measured, bounded in time, and remembered."""

import json
import subprocess
import sys

import numpy as np
import pytest
from standin import stand_in

from caloforge.conditions import Conditions
from caloforge.errors import ConfigError, MissingDependencyError, ModelError
from caloforge.exporting.graph import export_graph
from caloforge.files import cache_folder
from caloforge.generation import backend_benchmark, backend_selection, engine, plan, runtime_benchmark
from caloforge.generation.backend_selection import choices_file, fastest, plan_for
from caloforge.generation.engine import load_on_backend
from caloforge.generation.generate import stream
from caloforge.generation.plan import Plan
from caloforge.models.parity import sample_inputs

SMALL = ("mesh.nx=7", "mesh.ny=7")
EXTRA = pytest.mark.skipif(
    any(plan.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime", "openvino")),
    reason="the extra onnx is not installed",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all tests, so that the graph is written once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    choices_file().unlink(missing_ok=True)


@pytest.fixture(scope="module")
def model():
    return stand_in(SMALL)


def columns(n=50):
    rng = np.random.default_rng(3)
    energy = rng.uniform(2e4, 4e5, n).astype(np.float32)
    return Conditions(energy, np.full(n, 1.57, np.float32), np.zeros(n, np.float32), np.full(n, 11, np.int32))


def showers(model, **options):
    parts = list(stream(model, columns(), seed=5, plan=Plan(**options)))
    assert all(part.seconds.min() > 0 for part in parts)
    return np.concatenate([part.showers for part in parts])


# ---- the same showers


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [
        ("torch", "fp32", 1e-6),
        pytest.param("onnx", "fp32", 1e-6, marks=EXTRA),
        pytest.param("openvino", "fp32", 1e-6, marks=EXTRA),
        pytest.param("openvino", "bf16", 0.02, marks=EXTRA),
        pytest.param("onnx", "int8", 0.1, marks=EXTRA),
        pytest.param("openvino", "int8", 0.1, marks=EXTRA),
    ],
)
def test_every_backend_makes_the_showers_of_torch(model, backend, precision, tolerance, threads):
    want = showers(model)
    # 50 is no multiple of 16: the last batch is not full
    got = showers(model, backend=backend, precision=precision, threads=threads, batch_size=16)
    assert got.shape == (50, 25, 7, 7)
    assert np.abs(got - want).sum() < tolerance * want.sum()
    if precision != "fp32":
        assert not np.allclose(got, want, rtol=1e-5), "the arithmetic asked for is not used"


@EXTRA
def test_the_graph_is_written_once_and_found_again(model):
    load_on_backend(model, Plan("onnx"))
    (path,) = (cache_folder() / "graphs").glob("*-fp32.onnx")
    before = path.stat().st_mtime_ns
    load_on_backend(model, Plan("openvino"))
    assert path.stat().st_mtime_ns == before
    other = stand_in(SMALL)
    other.first.weight.data += 1
    assert engine.graph_path(other) != path


@EXTRA
def test_a_graph_of_another_model_is_found_out(model, monkeypatch):
    path = engine.graph_of(model)
    good = path.read_bytes()
    # near, but not the same showers
    path.write_bytes(engine.graph_of(model, "int8").read_bytes())
    written = []

    def export_again(model, path):
        written.append(path)
        path.write_bytes(good)

    monkeypatch.setattr(engine, "export_graph", export_again)
    assert np.allclose(showers(model, backend="onnx"), showers(model), rtol=1e-3, atol=1e-3)
    assert written == [path]
    monkeypatch.setattr("caloforge.models.parity.PARITY", -1)
    with pytest.raises(ModelError, match="use --backend torch"):
        load_on_backend(model, Plan("onnx"))


@EXTRA
def test_a_network_that_is_no_graph(tmp_path):
    model = stand_in(SMALL)
    model.generate = lambda condition, noise: noise if noise.sum() > 0 else -noise
    with pytest.raises(ModelError, match=r"stand-in cannot be written as ONNX"):
        export_graph(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


# ---- what cannot be done


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"backend": "onx"}, "'onnx'"),
        ({"precision": "fp8"}, "fp8"),
        ({"backend": "torch", "precision": "int8"}, "--backend onnx or openvino"),
        ({"backend": "onnx", "precision": "bf16"}, "--backend torch or openvino"),
        ({"batch_size": 0}, "batch size"),
        ({"threads": 0}, "threads"),
        ({"backend": "openvino", "device": "cuda"}, "take torch"),
    ],
)
def test_wrong_wishes(model, wish, message):
    with pytest.raises(ConfigError, match=message):
        plan_for(model, 10, **wish)


def without(monkeypatch, *gone):
    real = plan.find_spec
    for module in (plan, backend_selection):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in gone else real(name))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_missing_extra_names_the_command(model, monkeypatch, backend):
    without(monkeypatch, "onnxscript")
    with pytest.raises(MissingDependencyError, match=r"pip install 'caloforge\[onnx\]'"):
        plan_for(model, 10, backend=backend)


def test_auto_goes_without_it(model, monkeypatch):
    without(monkeypatch, "onnx")
    monkeypatch.setattr(backend_selection, "MIN_SECONDS", 0)
    plan = plan_for(model, 10**9, threads=1)
    assert (plan.backend, plan.precision) == ("torch", "fp32")
    assert not choices_file().exists()


# ---- the choice


def pretend(monkeypatch, **milliseconds):
    """Runtimes of these speeds, by "backend_precision"; nothing is started."""
    tried = []

    def try_runtime(job, inputs):
        name = f"{job['backend']}_{job['precision']}"
        tried.append(name)
        return {16: milliseconds[name] / 1e3} if name in milliseconds else {}

    monkeypatch.setattr(backend_benchmark, "try_runtime", try_runtime)
    monkeypatch.setattr(backend_benchmark, "seconds_with_torch", lambda *a: {2: milliseconds["torch"] / 1e3})
    monkeypatch.setattr(backend_benchmark, "graph_of", lambda *a: "graph")
    monkeypatch.setattr(backend_benchmark, "_agrees", lambda model, plan: True)
    return tried


@EXTRA
def test_the_fastest_exact_one_is_taken_and_remembered(model, monkeypatch):
    tried = pretend(monkeypatch, torch=1.0, onnx_fp32=0.8, openvino_fp32=0.5, openvino_int8=0.01)
    plan = plan_for(model, 10**6, threads=1)
    assert (plan.backend, plan.precision, plan.batch_size) == ("openvino", "fp32", 16)
    # int8 is not in the card of this model
    assert tried == ["onnx_fp32", "openvino_fp32"]
    (entry,) = json.loads(choices_file().read_text()).values()
    assert entry["ms_per_shower"]["onnx fp32 batch 16"] == 0.8
    pretend(monkeypatch, torch=0.001)
    # also for little work, and without another measurement
    assert plan_for(model, 5, threads=1) == plan
    assert plan_for(model, 5, threads=1, batch_size=3).batch_size == 3
    # what else is asked for is another question
    assert plan_for(model, 5, threads=1, backend="torch").backend == "torch"
    assert plan_for(model, 5, threads=2).backend == "torch"


@EXTRA
def test_rough_arithmetic_only_with_the_word_of_the_card(monkeypatch):
    model = stand_in(SMALL)
    model.facts = model.facts.model_copy(update={"precisions": ("fp32", "int8")})
    tried = pretend(monkeypatch, torch=1.0, openvino_fp32=0.5, openvino_int8=0.2, openvino_bf16=0.1)
    assert plan_for(model, 10**6, threads=1).precision == "int8"
    assert "openvino_bf16" not in tried
    plans = {Plan("openvino", "int8"): 0.95, Plan("openvino", "fp32"): 1.0}
    # too little to gain
    assert fastest(plans).precision == "fp32"


@EXTRA
def test_little_work_is_not_measured(model, monkeypatch):
    tried = pretend(monkeypatch, torch=1.0, openvino_fp32=0.1)
    assert plan_for(model, 1000, threads=1).backend == "torch"
    assert not tried
    assert not choices_file().exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 3}'])
def test_a_damaged_memory_is_forgotten(model, monkeypatch, text):
    choices_file().parent.mkdir(parents=True, exist_ok=True)
    choices_file().write_text(text)
    assert plan_for(model, 10, threads=1).backend == "torch"


@EXTRA
def test_a_cache_that_cannot_be_written(model, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pretend(monkeypatch, torch=1.0, openvino_fp32=0.5)
    assert plan_for(model, 10**6, threads=1).backend == "openvino"


@EXTRA
def test_a_real_measurement(model, monkeypatch):
    monkeypatch.setattr(backend_selection, "MIN_SECONDS", 0)
    monkeypatch.setattr(backend_benchmark, "BATCHES", (4,))
    plan = plan_for(model, 100, threads=1)
    (entry,) = json.loads(choices_file().read_text()).values()
    assert set(entry["ms_per_shower"]) == {f"{b} fp32 batch 4" for b in ("torch", "onnx", "openvino")}
    times = entry["ms_per_shower"]
    assert times[f"{plan.backend} fp32 batch 4"] == min(times.values()), times


HANG = "import time\ntime.sleep(600)\n"
CRASH = "import os\nos.abort()\n"


@pytest.mark.parametrize("program", [HANG, CRASH, "print('no numbers')"])
def test_what_hangs_or_crashes_costs_its_time_only(model, monkeypatch, tmp_path, program):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{program}")
    script.chmod(0o755)
    monkeypatch.setattr(runtime_benchmark.sys, "executable", str(script))
    assert runtime_benchmark.try_runtime({}, sample_inputs(model), limit=1.0) == {}


def test_the_measurement_stops_where_it_takes_too_long():
    calls = []

    def slow(inputs):
        calls.append(len(inputs["energy"]))
        begin = runtime_benchmark.time.process_time()
        while runtime_benchmark.time.process_time() - begin < 0.2:
            pass

    # the time of the work, not of what the machine does besides
    assert 0.04 <= runtime_benchmark.measure(slow, {"energy": np.ones(3)}, 5, 1, patience=0.1) < 0.06
    assert calls == [5]


@EXTRA
def test_openvino_leaves_the_stack_of_signals_alone(model, tmp_path):
    """The one it would leave behind is freed with its last network: the next signal would crash."""
    export_graph(model, tmp_path / "graph.onnx")
    program = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from caloforge.generation.runtimes import OpenVino\n"
        "from caloforge.signals import _Stack\n"
        "here, stack = Path(sys.argv[1]), _Stack()\n"
        "network = OpenVino(here / 'graph.onnx', precision='fp32', batch=2, threads=1, cache=here)\n"
        "ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))\n"
        "print(stack.size)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "0"
