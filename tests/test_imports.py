"""What is loaded when: a process is started and asked for its modules, which no static contract can tell."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

MODELS = [
    "mlx",
    "mlx_lm",
    "torch",
    "transformers",
    "peft",
    "trl",
    "sklearn",
    "scipy",
    "tokenizers",
    "datasketch",
    "textual",
]


def loaded(script: str, names: list[str]) -> list[str]:
    """Which of these modules are loaded after the script, in a fresh process."""
    after = f"{script}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", after], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split() if done.stdout.strip() else []


def command(*words: str) -> str:
    """A script that runs one command, which must end well."""
    return f"""
from wizloop.loop.cli import app
try:
    app({words!r})
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def test_help_loads_no_library_that_takes_time() -> None:
    assert loaded(command("--help"), [*MODELS, "sqlalchemy", "pydantic", "numpy", "rich", "alembic", "psutil"]) == []


@pytest.mark.parametrize(
    "module",
    [
        "wizloop.loop.controller.supervisor",
        "wizloop.loop.controller.worker",
        "wizloop.loop.phases.order",
        "wizloop.loop.guard.backend",
        "wizloop.backends.devices",
        "wizloop.console.progress",
    ],
)
def test_what_outlives_a_model_loads_no_model_library(module: str) -> None:
    assert loaded(f"import {module}", MODELS) == []


def test_the_supervisor_loads_nothing_that_computes() -> None:
    script = "import wizloop.loop.controller.supervisor, wizloop.loop.phases.order, wizloop.console.progress"
    computes = ["numpy", "wizloop.loop.context", "wizloop.loop.guard.backend", "wizloop.backends.devices"]
    assert loaded(script, computes) == []


def test_the_choice_of_a_backend_loads_none() -> None:
    # Where a CUDA driver is, "auto" alone must ask torch.
    script = "from wizloop.loop.guard.backend import choose_backend as pick; pick('auto', 'cpu'); pick('mlx', 'auto')"
    assert loaded(script, MODELS) == []


def test_status_loads_sqlite_and_little_else(after_a_night: Path) -> None:
    heavy = [*MODELS, "sqlalchemy", "pydantic", "numpy", "rich", "alembic"]
    assert loaded(command("status", "-w", str(after_a_night)), [*heavy, "wizloop.store.sqlite"]) == [
        "wizloop.store.sqlite"
    ]


def test_reading_the_store_loads_sqlalchemy_and_little_else() -> None:
    assert (
        loaded("import wizloop.store.db, wizloop.store.overview", [*MODELS, "pydantic", "numpy", "rich", "alembic"])
        == []
    )


def test_a_command_loads_no_other() -> None:
    others = [f"wizloop.loop.commands.{name}" for name in ("start", "watch", "import_data", "evaluate", "teach")]
    assert loaded(command("keys", "--help"), others) == []


@pytest.mark.parametrize("leaf", ["backends.teachers.base", "backends.mlx.blas", "store.db", "recipes.schema"])
def test_a_leaf_loads_no_other_room(leaf: str) -> None:
    rooms = ["loop", "tui", "backends", "store", "recipes"]
    others = [f"wizloop.{room}" for room in rooms if room != leaf.split(".")[0]]
    assert loaded(f"import wizloop.{leaf}", others) == []


def test_the_view_loads_the_store_and_no_other_room() -> None:
    rooms = ["wizloop.loop", "wizloop.backends", "wizloop.recipes"]
    assert loaded("import wizloop.console.progress, wizloop.console.tables", rooms) == []


@pytest.mark.parametrize("typed", ["wizloop start d", "wizloop status -w r"])
def test_completion_loads_no_library_that_takes_time(typed: str) -> None:
    asked = {"_WIZLOOP_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    script = f"import os\nos.environ.update({asked!r})\n{command()}"
    script = script.replace("app(())", "app(prog_name='wizloop')")
    assert loaded(script, [*MODELS, "sqlalchemy", "pydantic", "numpy", "rich", "alembic", "psutil"]) == []


def test_the_public_api_loads_nothing_until_a_name_is_used() -> None:
    heavy = [*MODELS, "sqlalchemy", "pydantic", "numpy", "rich", "click", "wizloop.loop", "wizloop.backends"]
    assert loaded("import wizloop", heavy) == []
    assert loaded("import wizloop; wizloop.Workspace('runs')", MODELS) == []


def test_every_public_name_is_there_and_no_other_is() -> None:
    import wizloop

    assert [name for name in wizloop.__all__ if getattr(wizloop, name) is None] == []
    assert dir(wizloop) == sorted(wizloop.__all__)
    with pytest.raises(wizloop.RecipeError, match="did you mean 'demo'"):
        wizloop.load_recipe("dmo")
    with pytest.raises(AttributeError, match="has no attribute 'guard'"):
        wizloop.guard  # noqa: B018


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "wizloop", "--version"], capture_output=True, text=True)
    assert done.stdout == f"wizloop {version('wizloop')}\n"
