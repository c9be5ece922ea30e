"""The registry of export targets: what a model can be exported for. Importing this does not import torch.

A target is one file: a function that says what the consumer feeds and expects. It is one line of `BUILT_IN`,
or an entry point of the group `caloforge.targets` of any package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caloforge.plugins import Registry

if TYPE_CHECKING:
    from caloforge.exporting.contract import Contract
    from caloforge.models.base import ShowerModel

FOLDER = "caloforge.exporting.targets"


@dataclass(frozen=True)
class Target:
    """A consumer of exported models.

    Attributes:
        summary: One line for `caloforge list` and the help.
        contract: "module:function" of a model, which returns a `Contract`; it raises a `ModelError` with the
            reason where the consumer cannot run the model.
    """

    summary: str
    contract: str


BUILT_IN = {
    "onnx": Target("ONNX graph, for any program with ONNX Runtime", f"{FOLDER}.onnx:contract"),
    "openvino": Target("OpenVINO's own format", f"{FOLDER}.openvino:contract"),
    "par04": Target("Geant4's example Par04, unmodified", f"{FOLDER}.par04:contract"),
    "cpp": Target("header-only C++, with a model for Geant4", f"{FOLDER}.cpp:contract"),
    "ddml": Target("DDML in ddsim: model RegularGridGAN", f"{FOLDER}.ddml:contract"),
    "ddml-python": Target(
        "DDML in ddsim: embedded Python, model CaloClouds", f"{FOLDER}.ddml_python:contract"
    ),
    "qonnx": Target("8-bit QONNX for FPGA tools, with a cost estimate", f"{FOLDER}.qonnx:contract"),
}


def _complaint(name: str, target: Target) -> str:
    del name
    return "" if target.contract else "it names no function that gives a contract"


TARGETS = Registry("caloforge.targets", "export target", BUILT_IN, Target, _complaint)


def contract_function(name: str) -> Callable[[ShowerModel], Contract]:
    """The function of a target; imports torch.

    Raises:
        ConfigError: There is no such target.
        PluginError: The package that adds it is broken.
    """
    function: Callable[[ShowerModel], Contract] = TARGETS.resolve(
        name, TARGETS.get(name, "--target").contract
    )
    return function
