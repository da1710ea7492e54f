"""No command in the README is untested: every file, module and flag it names exists."""

import contextlib
import functools
import importlib
import importlib.util
import io
import pathlib
import re
import shlex
import tomllib

import pytest

from serving.app import make_app

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
COMMANDS = [c for block in BLOCKS for c in block.replace("\\\n", " ").splitlines() if c.strip()]


@functools.cache
def help_of(module):
    out = io.StringIO()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(out):
        importlib.import_module(module).main(["--help"])
    return out.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_command_names_real_things(command):
    for part in command.split("&&"):
        words = shlex.split(part)
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None
            if words[2].startswith(("serving.", "evaluators.")):
                flags = [word.partition("=")[0] for word in words if word.startswith("--")]
                flags = [flag for flag in flags if not flag.startswith("--config.")]  # see below
                assert not [flag for flag in flags if f"{flag} " not in help_of(words[2])]
        if words[0] == "curl":
            paths = {route.path for route in make_app(None).routes}
            assert "/" + words[-1].partition("/")[2] in paths
        for extra in re.findall(r"\.\[(\w+)\]", part):
            assert extra in EXTRAS
        for word in words:
            if word.startswith("--config="):
                name = word.removeprefix("--config=").removesuffix(".py").replace("/", ".")
                config = importlib.import_module(name).get_config()
            elif word.startswith("--config."):
                path = word.removeprefix("--config.").split("=")[0]
                node = config
                for key in path.split("."):
                    node = node[key]  # a KeyError here: the README names an unknown key


def test_the_two_commands_are_those_that_ci_runs():
    assert any("pip install -e . && python train.py --config=configs/captioning_shapes.py" in c
               for c in COMMANDS)  # fmt: skip
    assert "pip install -e '.[test]' && pytest" in COMMANDS
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "pip install --quiet -e '.[test]'" in script and "\npytest\n" in script


def test_every_file_it_points_to_exists():
    for name in re.findall(r"`((?:[\w.]+/)+[\w.]*)`", README):
        if not name.startswith(("runs/", "Flick", "tests/", "class_splits/")):
            assert (ROOT / name).exists(), name
