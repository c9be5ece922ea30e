"""`caloforge train` inside the workers of Ray Train."""

import os
from pathlib import Path

import pytest
import yaml
from test_distributed import merits, write_run

from caloforge.training.checkpoint import checkpoints


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_two_workers_of_a_torch_trainer(data, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run, out = write_run(tmp_path, max_steps=5), tmp_path / "run"
    # buffers of every type
    other = yaml.safe_load(run.read_text())
    other["model"] = {"family": "layered", "preset": "debug", "likelihood_steps": 2, "matching_steps": 3}
    layered = tmp_path / "layered.yaml"
    layered.write_text(yaml.safe_dump(other))
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def work(settings):
        import caloforge

        result = caloforge.train(
            settings["run"], data=Path(settings["data"]), out=Path(settings["out"]), progress=False
        )
        assert result["steps"] == 5
        (Path(settings["out"]) / f"rank-{os.environ['RANK']}").write_text(result.text)
        result = caloforge.train(
            settings["layered"], data=Path(settings["data"]), out=Path(settings["beside"]), progress=False
        )
        assert result["steps"] == 5

    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)
    try:
        TorchTrainer(
            work,
            train_loop_config={
                "run": str(run),
                "data": str(data),
                "out": str(out),
                "layered": str(layered),
                "beside": str(tmp_path / "layered"),
            },
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path / "ray")),
        ).fit()
    finally:
        ray.shutdown()
    # 9 steps an epoch for two processes of 12 showers, of which 5 are done
    assert len(checkpoints(out / "checkpoints")) == len(merits(out)) == 1
    assert len(merits(tmp_path / "layered")) == 1
    texts = [(out / f"rank-{rank}").read_text() for rank in (0, 1)]
    assert "for other processes" in texts[0]
    assert texts[1] == ""
