"""Writing of an exported model: graph, manifest, self-test and what the consumer needs, in one folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import ModelError, OutputError
from caloforge.exporting.contract import GRAPH, Contract
from caloforge.exporting.graph import check_exportable, export_module, require_packages
from caloforge.exporting.manifest import FORMAT, MANIFEST, REFERENCE, manifest, write_reference
from caloforge.exporting.registry import TARGETS, contract_function
from caloforge.files import check_new, partial_path, write_text, writing
from caloforge.models.base import ShowerModel
from caloforge.models.parity import Arrays


def check_folder(out: Path, *, force: bool = False) -> Path:
    """Check that an export can be written to a folder.

    Raises:
        OutputError: It exists without `force`, is no earlier export, or the place is not writable.
    """
    out = check_new(out, force=force)
    if out.exists() and not (out.is_dir() and (_is_export(out) or not any(out.iterdir()))):
        raise OutputError(f"{out} is no earlier export, which --force would replace; choose another name")
    return out


def _is_export(folder: Path) -> bool:
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def export_folder(
    model: ShowerModel, out: Path, target: str, *, name: str, digest: str, force: bool = False
) -> dict[str, Any]:
    """Export a model for a target; a kill leaves the old folder or the new one.

    Args:
        model: The model.
        out: The folder.
        target: Name of the target.
        name: What the model is called.
        digest: SHA-256 of its weights.
        force: Replace an earlier export.

    Returns:
        The manifest.

    Raises:
        ConfigError: There is no such target.
        ModelError: The consumer cannot run this model, or the graph makes other showers than torch.
        OutputError: See `check_folder`; the disk is full.
        MissingDependencyError: The extra `onnx` is not installed.
    """
    TARGETS.get(target, "--target")
    check_exportable(model)
    require_packages("onnxruntime")
    check_folder(out, force=force)
    contract = contract_function(target)(model.cpu().eval())
    with _new_folder(out) as folder:
        export_module(contract.module, contract.examples, contract.output.name, folder / GRAPH, model.family)
        files = contract.convert(folder) if contract.convert else (GRAPH,)
        reference = contract.examples | {contract.output.name: contract.expected()}
        _check(contract, folder / files[0], reference, target)
        write_reference(folder / REFERENCE, reference)
        document = manifest(model, contract, target, folder, files, name, reference, digest)
        for file, text in contract.texts(document).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / file, text)
        write_text(folder / MANIFEST, json.dumps(document, indent=1, allow_nan=False))
    return document


def _check(contract: Contract, graph: Path, reference: Arrays, target: str) -> None:
    """Run the self-test that the consumer will run.

    Raises:
        ModelError: The graph makes other showers than torch.
    """
    run = contract.runs or run_onnx
    want = reference[contract.output.name]
    got = run(graph, contract.examples)
    worst = largest_difference(got, want)
    # also true where it is NaN
    if not worst <= contract.tolerance:
        raise ModelError(
            f"the graph for {target} makes other showers of this model than torch: {worst:.2g} of the energy "
            f"in other cells, expected at most {contract.tolerance:g}"
        )


def largest_difference(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    """The share of the energy that lies in other cells, of the shower with the largest one."""
    if got.shape != want.shape:
        return np.inf
    axes = tuple(range(1, want.ndim))
    difference = np.abs(got.astype(np.float64) - want).sum(axis=axes)
    return float(np.max(difference / np.maximum(np.abs(want).sum(axis=axes, dtype=np.float64), 1e-12)))


def run_onnx(graph: Path, inputs: Arrays) -> np.ndarray[Any, Any]:
    """Run an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, dict(inputs))[0])


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `out` at the end."""
    with writing(out):
        folder = partial_path(out)
        folder.mkdir()
        try:
            yield folder
            old = out.with_name(f"{folder.name}.old.{os.getpid()}.partial") if out.exists() else None
            if old is not None:
                out.rename(old)
            folder.rename(out)
            if old is not None:
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
