"""Who may import whom (the arrows of the design), read off the files themselves."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = {
    "configs", "models", "metrics", "rewards", "data", "environments", "tasks", "evaluators",
    "training", "serving", "benchmarks", "train", "experiment", "task_parts",
}  # fmt: skip
# room -> (rooms it may import, libraries it may never import)
MAY = {
    "configs": ({"configs"}, {"jax", "flax", "numpy", "optax", "tensorflow"}),
    "models": ({"models"}, {"optax", "orbax", "grain", "PIL"}),
    "metrics": ({"metrics"}, {"jax", "flax", "optax"}),
    "rewards": ({"rewards", "metrics"}, {"optax", "orbax"}),
    "data": ({"data", "metrics.ptb"}, {"jax", "flax", "optax", "orbax"}),
    "environments": ({"environments", "rewards"}, {"flax", "optax", "orbax"}),
    "tasks": ({"tasks", "models", "rewards", "environments", "training.sharding"}, {"orbax"}),
    "evaluators": ({"evaluators", "metrics", "data", "training.sharding"}, {"flax", "optax"}),
    "training": ({"training"}, {"flax", "PIL", "grain"}),
    "serving": (
        {"serving", "models", "metrics", "data.tokenizer", "data.images", "data.search_options"}
        | {"training.checkpoint", "training.build", "training.state"},
        {"optax"},
    ),
}
# Command lines: they rebuild a run, so they stand at the door beside train.py.
ENTRY_POINTS = {
    "evaluators/run.py", "evaluators/run_episodes.py", "evaluators/run_preferences.py",
    "evaluators/run_environment.py", "evaluators/look.py", "serving/classify.py",
    "training/compile.py", "training/sweep_run.py", "rewards/frequencies.py", "rewards/inspect.py",
    "environments/trained_policy.py",
}  # fmt: skip
NOWHERE = {"tensorflow", "torch", "clu", "pycocoevalcap"}


def imports(path: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def allowed(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("room", sorted(r for r in MAY if (ROOT / r).is_dir()))
def test_arrows(room):
    may, never = MAY[room]
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        here = path.relative_to(ROOT).as_posix()
        for name in imports(path):
            top = name.split(".")[0]
            if top in never | NOWHERE:
                wrong.append(f"{here} imports {name}")
            if top in ROOMS and here not in ENTRY_POINTS and not allowed(name, may):
                wrong.append(f"{here} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_room_is_packaged():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert set(project["packages"]) == rooms


@pytest.mark.parametrize("room", ["data", "metrics"])
def test_host_rooms_never_load_jax(room):
    modules = [f"{room}.{p.stem}" for p in (ROOT / room).glob("*.py") if p.stem != "__main__"]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
    code += "assert not {'jax', 'tensorflow', 'torch'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_long_files_and_no_utils():
    for path in ROOT.glob("*/**/*.py"):
        here = path.relative_to(ROOT)
        if here.parts[0] not in ROOMS | {"tests"}:
            continue
        assert path.name not in {"utils.py", "common.py"} or here.parts[0] == "configs", here
        assert path.read_text().count("\n") <= 320, f"{here} is too long to read in one sitting"
    assert (ROOT / "train.py").read_text().count("\n") <= 125
