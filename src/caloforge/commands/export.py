"""`caloforge export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from caloforge.commands.options import FilePath
from caloforge.commands.outcome import Outcome


def export(
    model: str | Path,
    *,
    out: Annotated[FilePath, Parameter(name=["-o", "--out"])],
    target: str = "onnx",
    allow_large: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> Outcome:
    """Export a trained model for use in other programs.

    Args:
        model: A run directory, a model directory, or the name of a released model; see `caloforge list`.
        out: The folder to write: the graph, manifest.json, the data of a self-test, and files of the target.
        target: What will run it: onnx, openvino, par04, cpp, ddml, ddml-python, qonnx, or that of a plug-in.
        allow_large: Allow a model of more than 100 million numbers, which may exhaust the memory.
        force: Replace an earlier export.
    """
    from caloforge.exporting.registry import TARGETS
    from caloforge.models.store import read_model

    # before torch is imported
    TARGETS.get(target, "--target")
    stored = read_model(model, allow_large=allow_large)

    from caloforge.exporting.folder import check_folder, export_folder

    path = check_folder(Path(out), force=force)
    document = export_folder(
        stored.load(),
        path,
        target,
        name=Path(model).absolute().name,
        digest=stored.weights_sha256,
        force=force,
    )
    graph = document["graph"]
    files = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    return Outcome(
        f"{path}: {graph['file']} for {target}, with {', '.join(f for f in files if f != graph['file'])}",
        path=path,
        target=target,
        files=files,
        manifest=document,
    )
