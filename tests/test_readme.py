"""No command in the README is untested: every file, module and flag it names exists."""

import importlib
import importlib.util
import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
COMMANDS = [c for block in BLOCKS for c in block.replace("\\\n", " ").splitlines() if c.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_names_real_things(command):
    for part in command.split("&&"):
        words = shlex.split(part)
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None
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
        if not name.startswith(("runs/", "Flick", "tests/")):
            assert (ROOT / name).exists(), name
