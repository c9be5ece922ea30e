"""Command lines with values that make no sense."""

NUMBERS = ["0", "-1", "1.5", "0x10", "1e3", "", " ", "abc", "nan", "inf", "9" * 40, "１０", "1_0", "--"]
# no NUL: no process can be started with one among its arguments
OUTPUTS = ["/", ".", "..", "", "x" * 300, "/proc/x", "/dev/null/x"]
# folders that are there take the pictures of `inspect`
PICTURES = OUTPUTS[4:]


def commands(folder, run, data):
    """(label, arguments, output) of command lines that must be refused, each for one reason.

    Args:
        folder: Where outputs would be.
        run: A valid run.yaml.
        data: A valid shower file.
    """
    out = folder / "out.h5"
    simulate = ["simulate", str(run), "-n", "1", "-o", str(out), "--no-progress"]
    generate = ["generate", "clic-electron", "-n", "2", "-o", str(out), "--no-progress", "--backend", "torch"]
    validate = ["validate", str(data), str(data), "-o", str(folder / "report"), "--no-progress"]
    train = ["train", str(run), "--data", str(data), "-o", str(folder / "run"), "--no-progress"]
    join = ["join", str(data), "-o", str(out), "--no-progress"]
    inspect = ["inspect", "clic-ecal-25"]
    numbers = [
        (simulate, "-n"), (simulate, "--workers"), (simulate, "--seed"),
        (generate, "-n"), (generate, "--seed"), (generate, "--batch-size"), (generate, "--threads"),
        (validate, "--seed"), (validate, "--workers"), (validate, "--repeats"),
        (train, "--seed"), (["check", str(run)], "-n"),
    ]  # fmt: skip
    for base, option in numbers:
        for value in NUMBERS:
            if (option == "--seed" and value in ("0",)) or (value == "9" * 40 and option == "--seed"):
                continue
            yield f"{base[0]} {option} {value!r}", replaced(base, option, value), None
    for base in (simulate, generate, validate, train, join, inspect):
        for value in PICTURES if base is inspect else OUTPUTS:
            yield f"{base[0]} -o {value[:20]!r}", replaced(base, "-o", value), None
    texts = {
        "--energy": [
            "",
            "5",
            "-5 GeV",
            "5 GeV:1 GeV",
            "nan GeV",
            "1e400 GeV",
            "5 cm",
            "1 TeV",
            ":",
            "1 GeV:2 GeV:3 GeV",
        ],
        "--theta": ["", "90", "400 deg", "-1 deg", "nan rad", "10 deg"],
        "--phi": ["x deg", "inf deg"],
        "--particle": ["", "tau-", "11.5", "1" * 400, "pi+"],
        "--backend": ["", "tpu", "Torch "],
        "--precision": ["fp64", ""],
        "--device": ["", "tpu", "meta", "cuda:99", "cpu:7", "vulkan"],
        "--like": ["", "/dev/zero", "/nowhere.h5", ".", "no-*.h5", "{,}", "[", "/{" * 50],
    }
    for option, values in texts.items():
        for value in values:
            yield f"generate {option} {value[:20]!r}", replaced(generate, option, value), out
    for value in ["", "nobody", "/", "x" * 300, "a\x00b", "/dev/null", "/proc/self/mem"]:
        yield f"generate {value[:20]!r}", ["generate", value, "-n", "1", "-o", str(out)], out
        yield f"inspect {value[:20]!r}", ["inspect", value], None
        yield f"check {value[:20]!r}", ["check", value], None
        yield f"card {value[:20]!r}", ["card", value, str(folder)], None
        yield f"validate {value[:20]!r}", ["validate", value, str(data), "-o", str(folder / "report")], None
        yield f"tune {value[:20]!r}", ["tune", value, "-o", str(folder / "study")], None
        yield f"join {value[:20]!r}", ["join", value, str(data), "-o", str(out)], out
        yield f"import {value[:20]!r}", ["import", value, "--format", "3dgan", "-o", str(out)], out
        yield f"convert {value[:20]!r}", ["convert", value, "--to", "3dgan", "-o", str(out)], out
    for value in [
        "",
        "a",
        "=1",
        "a=",
        "a..b=1",
        "beam.energy.max=",
        "seed=190:20:30",
        "seed=" + "9" * 5000,
        "mesh=[" + "[" * 3000,
    ]:
        yield f"check --set {value[:20]!r}", ["check", str(run), "--set", value], None
    yield "generate -n of terabytes", replaced(generate, "-n", "2000000000"), out
    yield "no verb of this name", ["simulat"], None
    yield "an option of no verb", [*simulate, "--colour", "red"], out
    yield "an option twice", [*simulate, "-n", "2"], out


def replaced(base, option, value):
    """The command line with another value of an option."""
    if option in base:
        place = base.index(option) + 1
        return [*base[:place], value, *base[place + 1 :]]
    return [*base, option, value]
