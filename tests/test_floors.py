"""The house has floors: a file imports from floors below its own, or from its own room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gp_jax

PACKAGE = Path(gp_jax.__file__).parent

# Low to high; what stands in one line does not know of each other.
FLOORS = (
    ("errors",),
    ("files", "memory", "seeds"),
    ("json_config",),
    ("geometry", "video", "parallel"),
    ("models", "diffusion"),
    ("checkpoint",),
    ("published",),
    ("flow",),
    ("convert", "metrics", "data"),
    ("jobs", "fit"),
    ("methods",),
    ("training", "evaluation", "web"),
    ("bench",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The command line says of what training and evaluation can do, and training follows itself by an evaluation.
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE) + [
    path.name for path in sorted(PACKAGE.glob("*.py")) if path.name != "__init__.py"
]


def imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports from, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            whole = node.module == "gp_jax"
            names = [f"gp_jax.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        rooms |= {name.split(".")[1] for name in names if name.startswith("gp_jax.") and name != "gp_jax.__version__"}
    return rooms


@pytest.mark.parametrize("file", FILES)
def test_imports_go_downwards(file):
    room = file.split("/")[0].removesuffix(".py")
    above = {other for other in imported(PACKAGE / file) - {room} if FLOOR[other] >= FLOOR[room]}
    assert not above, f"{file} imports from {', '.join(sorted(above))}, which stand no lower than {room}"


@pytest.mark.parametrize(
    "module", ["files", "evaluation.results", "evaluation.report", "jobs.journal", "cli.outpaint", "cli.evaluate"]
)
def test_what_only_reads_and_writes_needs_no_jax(module):
    code = f"import sys, gp_jax.{module}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_method_imports_another():
    """What two of them need lies beside them."""
    methods = {path.name for path in (PACKAGE / "methods").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {"globalpaint", "m3ddm", "dehan"} <= methods
    for path in (PACKAGE / "methods").rglob("*.py"):
        own = path.relative_to(PACKAGE / "methods").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            other = module.removeprefix("gp_jax.methods.").partition(".")[0]
            assert not module.startswith("gp_jax.methods.") or other not in methods - {own}, f"{path}: {module}"
