"""What one of several processes does in test_distributed.py: `python together.py CASE DATA OUT`."""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import MODEL

from caloforge.config import build
from caloforge.errors import CaloforgeError
from caloforge.models.gan3d.config import Gan3dConfig
from caloforge.models.registry import create_model, list_models, read_model_config
from caloforge.provenance import digest_json
from caloforge.training.config import DistributionConfig, TrainingConfig
from caloforge.training.data_split import split_showers
from caloforge.training.evaluation import Evaluation
from caloforge.training.loop import Trainer, train_model
from caloforge.training.optimizers import build_optimizers
from caloforge.training.parallel import build_strategy
from caloforge.training.process_group import Communicator
from listening import beyond_loopback, listening


def plain_model(data):
    """A 3DGAN that treats each shower alike whoever trains on it: noise that follows from its energy, no
    dropout, no flipped labels, no batch statistics.
    """
    document = json.loads(json.dumps(MODEL)) | {"label_flip": 0.0}
    document["generator"]["blocks"][0]["batch_norm"] = False
    document["discriminator"]["blocks"][0] |= {"batch_norm": False, "dropout": 0.0}
    model = create_model(build(Gan3dConfig, document, "model"), data, seed=4)

    class Plain(type(model)):
        def step(self, batch):
            self.energy = batch.condition.energy
            yield from super().step(batch)

        def example_noise(self, count, device="cpu"):
            (latent,) = self.noise_shape
            return torch.sin(self.energy[:, None] * torch.linspace(0.01, 1, latent)) * math.sqrt(2)

    model.__class__ = Plain
    return model


def plain_split():
    """Of the 240 showers of the tests; an odd number, so that two processes cannot share them equally."""
    split = split_showers(240, plain_settings().evaluation)
    assert len(split.train) == 203
    return split


def plain_settings(**changes):
    base = {
        "batch_size": 11,
        "epochs": 1,
        "precision": "fp32",
        "threads": 1,
        "ema": 0.9,
        "augment": False,
        # no division by tiny second moments, which would enlarge roundings
        "optimizer": {"kind": "adam", "learning_rate": 0.01, "epsilon": 0.1},
        "evaluation": {"share": 0.154, "showers": 37},
    }
    return build(TrainingConfig, base | changes, "training")


def learnt(data, out, communicator, epochs, **distribution):
    """Figures of merit after the epochs of a training with a strategy."""
    config = plain_settings(
        batch_size=6,
        epochs=epochs,
        optimizer={"kind": "adam", "learning_rate": 0.003, "momentum": 0.5},
        distribution=distribution,
    )
    model = create_model(build(Gan3dConfig, MODEL, "model"), data, seed=4)
    train_model(model, data, config, out, seed=1, communicator=communicator)
    return merits(out)


def forces(data, communicator):
    """Weights of this process after each strategy has met once, from known ones; and the elastic centre."""
    found = {}
    for kind in ("local-sgd", "elastic", "hierarchical"):
        settings = {"kind": kind, "every": 2, "across_every": 4, "group_size": 2, "force": 0.6}
        model = create_model(build(Gan3dConfig, MODEL, "model"), data, seed=4)
        optimizers = build_optimizers(model, plain_settings().optimizer)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 10.0)
        strategy = build_strategy(build(DistributionConfig, settings, "x"), communicator, model, optimizers)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 10.0 + 4 * communicator.rank)
        found[kind] = []
        for step in range(1, 5):
            strategy.after_step(step)
            values = torch.cat([weight.detach().flatten() for weight in strategy.weights])
            assert bool((values == values[0]).all())
            found[kind].append(round(float(values[0]), 4))
        with strategy.consensus(None):
            found[f"{kind} agreed"] = round(float(strategy.weights[0].flatten()[0]), 4)
        assert round(float(strategy.weights[0].flatten()[0]), 4) == found[kind][-1]
    return found


def family_models(data):
    """A small model of every family; of the layered one also one that learns without noise."""
    layered = {"family": "layered", "preset": "debug", "radial_bins": [0, 1, 2], "stored_showers": 64}
    documents = {name: {"family": name, "preset": "debug"} for name in list_models()} | {
        "gan3d": MODEL,
        # both of its phases
        "layered": layered | {"likelihood_steps": 4, "matching_steps": 6},
        # no draws: the likelihood of a shower is the same wherever it is trained on
        "layered likelihood": layered | {"likelihood_steps": 100, "matching_steps": 6},
    }
    return {
        name: create_model(read_model_config(document, "model"), data, seed=4)
        for name, document in documents.items()
    }


def train_families(data, out, communicator):
    """Train each; digests of the weights and the figures of merit, of this process."""
    found = {}
    for name, model in family_models(data).items():
        folder = out / name
        train_model(model, data, plain_settings(), folder, seed=1, communicator=communicator)
        state = model.state_dict()
        texts = [f"{key} {value.dtype} {value.tolist()}" for key, value in state.items()]
        found[name] = {"weights": digest_json(texts), "merits": merits(folder)}
    return found


def merits(out):
    """Figures of merit of the evaluations of a training."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["eval_merit"] for line in lines if "eval_merit" in line]


def strategies(data, out):
    # mpirun leaves its own to the processes that it starts
    inherited = beyond_loopback([os.getpid()])
    with Communicator(60) as communicator:
        config = plain_settings()
        trainer = Trainer(plain_model(data), data, config, out / "plain", communicator, seed=1, resume=False)
        start = trainer.evaluation(trainer.model, trainer.device, "fp32")
        trainer.run()
        held = list(trainer.model.state_dict().values())
        weights = np.array([float(value.double().sum()) for value in held])
        found = {
            "evaluation": start,
            "learnt": learnt(data, out / "elastic", communicator, 10, kind="elastic", every=2),
            "weights": [
                table[0].tolist() for table in communicator.all_gather(weights[None].astype(np.float32))
            ],
            "listening": len(listening([os.getpid()])),
            "beyond": sorted(beyond_loopback([os.getpid()]) - inherited),
            "families": train_families(data, out / "families", communicator),
        }
    (out / f"strategies-{communicator.rank}.json").write_text(json.dumps(found))


def four(data, out):
    with Communicator(60) as communicator:
        found = {"forces": forces(data, communicator)}
        settings = {"kind": "hierarchical", "group_size": 2, "every": 2, "across_every": 6}
        found["learnt"] = learnt(data, out / "hierarchical", communicator, 24, **settings)
        # three blocks of held-out showers for four processes
        model = create_model(build(Gan3dConfig, MODEL, "model"), data, seed=4)
        found["evaluation"] = Evaluation(data, range(160, 240), communicator)(
            model, communicator.device, "fp32"
        )
    (out / f"four-{communicator.rank}.json").write_text(json.dumps(found))


def fail(data, out, how):
    """Process 1 stops in its third step; says what process 0 hears of it, and after how long."""

    def progress(step, _total, _note):
        (out / f"{how}-step").write_text(str(time.time()))
        if step == 3 and os.environ["RANK"] == "1":
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "stopped":
                raise CaloforgeError("a fault of its own")
            time.sleep(600)

    config = plain_settings(distribution={"timeout_seconds": 3})
    try:
        train_model(plain_model(data), data, config, out / how, seed=1, progress=progress)
    except CaloforgeError as error:
        waited = time.time() - float((out / f"{how}-step").read_text())
        print(json.dumps({"error": str(error), "waited": waited}), flush=True)


if __name__ == "__main__":
    case, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if case == "strategies":
        strategies(data, out)
    elif case == "four":
        four(data, out)
    else:
        fail(data, out, case)
