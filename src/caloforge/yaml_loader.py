"""A strict YAML loader: plain data of bounded size, no duplicate keys."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

# size of a file; a run with a thousand layers written out has a tenth of it
MAX_BYTES = 1_000_000
# nodes of a document with its aliases expanded; a long text counts as several
MAX_NODES = 50_000
TEXT_OF_A_NODE = 64
MAX_DEPTH = 50
MAX_DIGITS = 40

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
# types of YAML 1.1 that no setting has
_REFUSED = {
    "timestamp": "a date",
    "binary": "binary data",
    "set": "a set",
    "omap": "an ordered mapping",
    "pairs": "a list of pairs",
}


class StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys, types that no setting has, and oversized documents.

    Refused as well: recursive aliases, and numbers to the base of 8, 16 or 60.
    """

    def __init__(self, stream: str) -> None:
        """Read from a text."""
        super().__init__(stream)
        self._nodes = self._depth = 0
        self._sizes: dict[int, int] = {}

    # ---- bounds

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; the nodes that an alias refers to are counted again."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        alias, before = isinstance(event, yaml.AliasEvent), self._nodes
        if self._depth >= MAX_DEPTH:
            _refuse(event, f"nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias:
            # no size yet: a recursive alias, whose target is still being composed
            self._nodes += self._sizes.get(id(node), 1)
        else:
            self._nodes += 1
            if isinstance(node, yaml.ScalarNode):
                if "\0" in node.value:
                    # no path or name may hold one, and the system would refuse it only later
                    _refuse(event, "a text with a NUL character")
                self._nodes += len(node.value) // TEXT_OF_A_NODE
            self._sizes[id(node)] = self._nodes - before
        if self._nodes > MAX_NODES:
            _refuse(event, f"more than {MAX_NODES} values, those that aliases repeat counted each time")
        return node

    # ---- mappings

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; duplicate keys are refused."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            # a list or mapping as key is refused below
            if isinstance(key, Hashable):
                if key in seen:
                    _refuse(key_node, f"duplicate key {key!r}")
                seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ARG002
        """Any value, built deeply: only then PyYAML detects recursive nodes."""
        try:
            return super().construct_object(node, deep=True)
        except (LookupError, ValueError, TypeError, AttributeError):
            # raised by PyYAML where a tag does not fit its value
            _refuse(node, f"no value of the type {node.tag.rpartition(':')[2]!r}")

    # ---- values

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number to the base of 10."""
        self._check_digits(node)
        if not _WHOLE.fullmatch(node.value):
            _refuse(node, f"{node.value!r} is no number to the base of 10; as a text write it in quotes")
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number to the base of 10."""
        self._check_digits(node)
        if ":" in node.value:
            _refuse(node, f"{node.value!r} is no number to the base of 10; as a text write it in quotes")
        return super().construct_yaml_float(node)

    def _check_digits(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > MAX_DIGITS:
            _refuse(node, f"a number of {len(node.value)} characters, expected at most {MAX_DIGITS}")

    def construct_refused(self, node: yaml.Node) -> NoReturn:
        """Refuse a value of a type that no setting has."""
        kind = _REFUSED[node.tag.rpartition(":")[2]]
        shown = f"{node.value[:MAX_DIGITS]!r} is" if isinstance(node, yaml.ScalarNode) else "this is"
        _refuse(node, f"{shown} {kind}, which no setting is; as a text write it in quotes")


def _refuse(place: Any, problem: str) -> NoReturn:
    """Raise the error of a node or an event."""
    raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


# the tables of PyYAML hold functions, not names of methods
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)
for _kind in _REFUSED:
    StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", StrictLoader.construct_refused)
