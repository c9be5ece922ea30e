"""Names of the foreign file formats that `import` reads and `convert` writes.

Kept apart from the converters, so that a list of the names does not load h5py.
"""

from typing import Literal

Format = Literal["3dgan", "calochallenge", "par04", "showerdata"]
