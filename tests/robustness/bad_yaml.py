"""Run files, studies and thresholds that nobody should write: named ones, and random changes from a seed."""

import copy

import yaml

VALID = {
    "seed": 1,
    "detector": {"preset": "clic-ecal-25", "mesh": {"nx": 5, "ny": 5}},
    "beam": {"particle": "e-", "energy": {"kind": "flat", "min": "2 GeV", "max": "20 GeV"}},
    "model": {"family": "layered", "preset": "debug"},
    "training": {"batch_size": 8, "epochs": 1},
}
ALIASES = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(20)
)
# text of a whole document
DOCUMENTS = {
    "aliases in aliases": ALIASES,
    "an alias of itself": "detector: &a {preset: *a}\n",
    "nested lists": "detector: " + "[" * 5000 + "]" * 5000,
    "nested mappings": "detector: " + "{a: " * 3000 + "1" + "}" * 3000,
    "a list": "- 1\n- 2\n",
    "text": "hello\n",
    "nothing": "",
    "null": "null\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a Python object": "detector: !!python/object/apply:os.system ['true']\n",
    "an unknown tag": "detector: !shape 5\n",
    "binary": "detector: !!binary aGVsbG8=\n",
    "a set": "detector: !!set {a, b}\n",
    "a timestamp": "seed: 2001-12-14t21:59:43.10-05:00\n",
    "a timestamp that is none": "seed: 2001-99-99\n",
    "a number of 5000 digits": "seed: " + "9" * 5000 + "\n",
    "a sexagesimal number": "seed: 190:20:30\n",
    "a key twice": "seed: 1\nseed: 2\n",
    "a mapping as key": "{a: 1}: 2\n",
    "a tab": "seed:\t1\n\tdetector: x\n",
    "no end of a quote": "name: 'abc\n",
    "NUL": "name: \x00\n",
    "many keys": "\n".join(f"k{i}: {i}" for i in range(200_000)),
    "a long line": "name: " + "x" * 3_000_000,
    "merge keys": "a: &a {b: 1}\nc: {<<: *a, <<: *a}\n",
    "complex floats": "seed: .inf\n",
}
# values put in the place of others
VALUES = [
    None, True, -1, 0, 1.5, 1e308, -1e-300, 10**30, "", " ", "x", "x" * 2000, "-1 GeV",
    "1e400 GeV", "nan GeV",
    "10 Ge V", "5 apples", "10", "\u0661\u0660 GeV", "\uff11\uff10 GeV", "../..", "/dev/zero", "a\x00b",
    "1e-300 mm", "1e300 mm", [], {}, [[]], [1, 2, 3], ["10 GeV"] * 3, {"a": {"b": {}}}, {"kind": "none"},
    {"preset": "clic-ecal-25", "mesh": None},
]  # fmt: skip


def paths_of(document, prefix=()):
    """The path of every value of nested mappings."""
    for key, value in document.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*prefix, key))


def changed(rng, document=VALID):
    """A document with one to three random changes, as text."""
    result = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 4))):
        paths = list(paths_of(result))
        if not paths:
            break
        *parents, key = paths[int(rng.integers(len(paths)))]
        target = result
        for parent in parents:
            target = target[parent]
        value = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
        action = rng.integers(5)
        if action == 0:
            del target[key]
        elif action == 1:
            target[f"{key}s"] = value
        else:
            target[key] = value
    return yaml.safe_dump(result, allow_unicode=True)


def damaged(rng, text):
    """Text with some characters exchanged, removed or doubled."""
    characters = list(text)
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(len(characters)))
        characters[place] = str(rng.choice(list(":{}[]&*!|>%@`'\"#,-? \n\tx0")))
    return "".join(characters)
