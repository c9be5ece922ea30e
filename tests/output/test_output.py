"""Standard output and error end no command, whatever becomes of them."""

import os
import subprocess
import sys

import pytest

from caloforge.output import readable, shorten
from caloforge.run import recipe_text

COMMAND = f"{sys.executable} -m caloforge"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line, tmp_path, **environment):
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=tmp_path,
        env=os.environ | environment,
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("verb", ["--help", "--version", "cite", "cite --json"])
def test_a_reader_that_stops_early(verb, tmp_path):
    assert shell(f"{COMMAND} {verb} | true", tmp_path) == (0, "", "")


@pytest.mark.parametrize("verb", ["--help", "cite", "cite --json"])
def test_standard_output_that_is_closed(verb, tmp_path):
    assert shell(f"{COMMAND} {verb} >&-", tmp_path) == (0, "", "")


@pytest.mark.parametrize("verb", ["--help", "--version", "cite", "cite --json"])
def test_standard_output_that_is_full(verb, tmp_path):
    code, _, err = shell(f"{COMMAND} {verb} > /dev/full", tmp_path)
    assert code == 1
    assert err.startswith("error: ") and "No space left" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "closed", "expected"),
    [
        ("cite", ">&- 2>&- <&-", 0),
        ("cite", "> /dev/full 2> /dev/full", 1),
        ("config show none.yaml", "2>&-", 2),
        ("config show none.yaml", "> /dev/full 2> /dev/full", 2),
        ("config show none.yaml", "2>&1 | true", 2),
        ("config show --json none.yaml", ">&-", 2),
        ("config show --json none.yaml", "> /dev/full", 2),
    ],
)
def test_the_exit_code_is_that_of_the_verb(verb, closed, expected, tmp_path):
    assert shell(f"{COMMAND} {verb} {closed}", tmp_path)[0] == expected


def test_progress_that_nobody_reads(tmp_path):
    # a folder of that name: a line on standard error before the work
    (tmp_path / "demo").mkdir()
    line = f"{COMMAND} config show demo 2> >(true); echo $?"
    code, out, _ = shell(line, tmp_path)
    assert code == 0
    assert out.rstrip().endswith("\n0")


def test_a_file_opened_later_is_not_written_to_by_libraries(tmp_path):
    # without standard output the next file would take its number
    code = "import os, caloforge.output as o; o.open_streams(); assert os.open('x', os.O_CREAT) > 2"
    assert shell(f'{sys.executable} -c "{code}" >&- 2>&- <&-', tmp_path)[0] == 0


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, C_LOCALE])
@pytest.mark.parametrize(
    "verb", ["inspect clic-ecal-25 -o pics", "config show é.yaml", "config show é.yaml --set x=é"]
)
def test_encodings_that_lack_characters(environment, verb, tmp_path):
    folder = tmp_path / "dé"
    folder.mkdir()
    (folder / "é.yaml").write_text(f"{recipe_text('demo')}# é\n", encoding="utf-8")
    code, _, err = shell(f"{COMMAND} {verb}", folder, **environment)
    assert code == (2 if "--set" in verb else 0), err
    if "pics" in verb:
        assert (folder / "pics/detector.png").stat().st_size > 10_000


def test_pictures_and_texts_with_the_name_of_a_folder_that_is_no_text(tmp_path):
    # bytes of an old disk, or of any name in the locale C
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from caloforge.files import write_text\n"
        "from caloforge.training.pictures import training_curves\n"
        "folder = Path(os.fsdecode(b'r\\xe9n')); folder.mkdir()\n"
        'line = \'{"step": 10, "seconds": 3.0, "g_loss": 2.0}\\n\'\n'
        "(folder / 'metrics.jsonl').write_text(line)\n"
        "training_curves(folder / 'metrics.jsonl').savefig(folder / 'a.png')\n"
        "write_text(folder / 'a.html', folder.name)\n"
    )
    (tmp_path / "draw.py").write_text(script)
    code, _, err = shell(f"{sys.executable} draw.py", tmp_path)
    assert code == 0, err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("é", "é"), (os.fsdecode("é".encode()), "é"), ("a\udcff", "a\ufffd"), ("\ud800", "\ufffd"), ("", "")],
)
def test_readable(text, expected):
    assert readable(text) == expected
    assert readable("é".encode().decode("ascii", "surrogateescape")) == "é"


# ---- messages


def test_short_messages_are_left_alone():
    text = "one\n  two µ €"
    assert shorten(text) == text


@pytest.mark.parametrize("text", ["x" * 100_000, "line\n" * 50_000, ("y" * 5000 + "\n") * 100])
def test_long_messages_are_cut(text):
    short = shorten(text)
    assert len(short) <= 1000
    assert "characters" in short or "more lines" in short
    assert short.startswith(text[:4])


def test_a_terminal_obeys_no_message():
    assert shorten("a\x1b[2Jb\x00\x07") == "a\\x1b[2Jb\\x00\\x07"


def test_an_error_of_many_lines(tmp_path):
    keys = "\n".join(f"key{i}: {i}" for i in range(2000))
    (tmp_path / "run.yaml").write_text(keys)
    code, _, err = shell(f"{COMMAND} check run.yaml", tmp_path)
    assert code == 2
    assert len(err) < 1050
    assert "more lines" in err


def test_warnings_of_numbers_stand_before_no_error(tmp_path):
    script = (
        "import sys, numpy, caloforge.cli as cli, caloforge.commands.cite as verb\n"
        "def cite():\n"
        "    numpy.float64(1) / 0\n"
        "    raise cli.ConfigError('no')\n"
        "verb.cite = cite\n"
        "sys.argv = ['caloforge', 'cite']\n"
        "sys.exit(cli.main())\n"
    )
    (tmp_path / "warn.py").write_text(script)
    assert shell(f"{sys.executable} warn.py", tmp_path) == (2, "", "error: no\n")
    assert "RuntimeWarning" in shell(f"{sys.executable} -W default warn.py", tmp_path)[2]
