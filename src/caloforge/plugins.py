"""Names that come with caloforge, and those that installed packages add through entry points.

A package announces an object in its metadata, for instance in its pyproject.toml:

    [project.entry-points."caloforge.samplers"]
    latin-hypercube = "my_package.sampler:SAMPLER"

Nothing is looked for before a name is asked for that is not built in, or all names are listed; the code of a
package is imported when one of its names is used. A name that is built in cannot be replaced.
"""

from __future__ import annotations

import contextlib
import functools
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Generic, TypeVar

from caloforge.errors import CaloforgeError, ConfigError, PluginError, nearest
from caloforge.output import print_note

T = TypeVar("T")
# what is shown of a name that is none
LONGEST_NAME = 60


@dataclass(frozen=True)
class Announced:
    """A name that a package adds.

    Attributes:
        point: Where the object is.
        package: Name and version of the package.
    """

    point: EntryPoint
    package: str


class Registry(Generic[T]):
    """Objects of one kind by name: those of caloforge, and those of installed packages.

    Attributes:
        group: The entry-point group, "caloforge.families".
        kind: What one of them is, for messages: "model family".
    """

    def __init__(
        self,
        group: str,
        kind: str,
        built_in: Mapping[str, T] | Callable[[], Mapping[str, T]],
        expected: type[T],
        complaint: Callable[[str, T], str] = lambda name, found: "",  # noqa: ARG005
    ) -> None:
        """A registry.

        Args:
            group: The entry-point group.
            kind: What one of the objects is.
            built_in: Those of caloforge, or a function that gives them.
            expected: Their type.
            complaint: What is wrong with the object that a package gives for a name; "" where nothing is.
        """
        self.group, self.kind, self._built_in = group, kind, built_in
        self._expected, self._complaint = expected, complaint

    @property
    def built_in(self) -> Mapping[str, T]:
        """Those of caloforge."""
        return self._built_in() if callable(self._built_in) else self._built_in

    def added(self) -> dict[str, str]:
        """Names that packages add, and the packages; nothing of them is imported."""
        return {name: _packages(found) for name, found in self._announced().items()}

    def names(self) -> list[str]:
        """Every name: those that are built in, then those of packages."""
        return [*self.built_in, *self.added()]

    def get(self, name: str, where: str) -> T:
        """The object of a name.

        Args:
            name: What the user wrote.
            where: The setting or option it stands in, for messages.

        Raises:
            ConfigError: There is no such name; with the nearest one.
            PluginError: The package that adds the name is broken, or several packages add it.
        """
        if name in self.built_in:
            return self.built_in[name]
        announced = self._announced().get(name)
        if announced is None:
            shown, article = name[:LONGEST_NAME], "an" if self.kind[0] in "aeiou" else "a"
            raise ConfigError(
                f"{where}: got {shown!r}, expected {article} {self.kind}. {nearest(shown, self.names())}"
            )
        return self._load(name, announced)

    def usable(self) -> dict[str, T]:
        """Every object that can be had; a note says which package is broken."""
        found = dict(self.built_in)
        for name in self.added():
            try:
                found[name] = self.get(name, self.kind)
            except PluginError as error:
                _say_broken(str(error))
        return found

    def resolve(self, name: str, reference: str) -> Any:
        """What "module:attribute" stands for, which the object of a name refers to; imports the module.

        Raises:
            PluginError: It is of a package, and cannot be imported.
        """
        if name in self.built_in:
            return pkgutil.resolve_name(reference)
        with self._blamed(name, self._announced()[name][0]):
            return pkgutil.resolve_name(reference)

    def _load(self, name: str, announced: list[Announced]) -> T:
        first = announced[0]
        if len(announced) > 1:
            raise PluginError(
                f"the {self.kind} {name!r} is added by {' and by '.join(a.package for a in announced)}; "
                "uninstall one of them"
            )
        with self._blamed(name, first):
            found = first.point.load()
        if not isinstance(found, self._expected):
            raise self._error(
                name,
                first,
                f"{first.point.value} is of type {type(found).__name__}, expected "
                f"{self._expected.__module__}.{self._expected.__qualname__}",
            )
        if complaint := self._complaint(name, found):
            raise self._error(name, first, complaint)
        return found

    @contextlib.contextmanager
    def _blamed(self, name: str, announced: Announced) -> Iterator[None]:
        try:
            yield
        except CaloforgeError:
            raise
        # code of others may raise anything
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "")
            raise self._error(
                name, announced, f"{type(error).__name__}: {reason}".removesuffix(": ")
            ) from error

    def _error(self, name: str, announced: Announced, reason: str) -> PluginError:
        package = announced.package
        return PluginError(
            f"package {package}: its {self.kind} {name!r} cannot be used ({reason}); update it, or remove it "
            f"with: pip uninstall {package.split()[0]}"
        )

    def _announced(self) -> dict[str, list[Announced]]:
        found = _announced(self.group, tuple(sys.path))
        for name in sorted(set(found) & set(self.built_in)):
            _say_taken(self.kind, name, found[name][0].package)
        return {name: points for name, points in found.items() if name not in self.built_in}


@functools.lru_cache
def _announced(group: str, path: tuple[str, ...]) -> dict[str, list[Announced]]:
    """Entry points of a group by name, of the packages on `sys.path`."""
    del path
    found: dict[str, list[Announced]] = {}
    seen: set[str] = set()
    for distribution in distributions():
        points = _points(distribution, group)
        package = distribution.metadata["Name"] if points else ""
        # the same package further behind on sys.path is hidden
        if package in seen:
            continue
        seen |= {package} if points else set()
        for point in points:
            found.setdefault(point.name, []).append(Announced(point, f"{package} {distribution.version}"))
    return {name: found[name] for name in sorted(found)}


def _points(distribution: Distribution, group: str) -> list[EntryPoint]:
    """Entry points of a group; none where the metadata of a package cannot be read."""
    try:
        return list(distribution.entry_points.select(group=group))
    # of any package on this machine, with whatever is in its files
    except Exception:
        return []


def added_to(group: str) -> dict[str, str]:
    """Names that packages add to a group, and the packages; nothing of them is imported."""
    return {name: _packages(found) for name, found in _announced(group, tuple(sys.path)).items()}


def _packages(found: list[Announced]) -> str:
    return " and ".join(announced.package for announced in found)


# notes are told once in a process


@functools.cache
def _say_broken(message: str) -> None:
    print_note(message)


@functools.cache
def _say_taken(kind: str, name: str, package: str) -> None:
    print_note(f"package {package} adds a {kind} {name!r}, which is built in; the one of caloforge is used")
