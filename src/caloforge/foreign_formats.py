"""Foreign file formats that `import` reads and `convert` writes. Importing this does not import h5py.

A new format is one line of `BUILT_IN`, or an entry point of the group `caloforge.formats` of any package.
"""

from __future__ import annotations

from dataclasses import dataclass

from caloforge.plugins import Registry

# options of the import that not every format has
OPTIONS = ("dataset", "binning", "visible")


@dataclass(frozen=True)
class Converter:
    """A foreign format; its functions are "module:function", imported when they are used.

    Attributes:
        open: Of (paths, detector, particle), and of `options` as keywords; checks the files and returns a
            `caloforge.showers.converters.common.Source` of showers.
        write: Of (shower file, path, *, force, progress).
        options: Those of `OPTIONS` that `open` takes.
    """

    open: str
    write: str
    options: tuple[str, ...] = ()


HERE = "caloforge.showers.converters"
BUILT_IN = {
    "3dgan": Converter(f"{HERE}.threedgan:open_3dgan", f"{HERE}.threedgan:write_3dgan"),
    "calochallenge": Converter(
        f"{HERE}.calochallenge:open_calochallenge", f"{HERE}.calochallenge:write_calochallenge", OPTIONS
    ),
    "par04": Converter(f"{HERE}.par04:open_par04", f"{HERE}.par04:write_par04", ("visible",)),
    "showerdata": Converter(f"{HERE}.pointclouds:open_pointclouds", f"{HERE}.pointclouds:write_pointclouds"),
}
FORMATS = Registry("caloforge.formats", "file format", BUILT_IN, Converter)
