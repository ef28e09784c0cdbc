"""What an installed package holds: all its files, and whatever its messages name."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gp_jax"


@pytest.mark.slow  # pip fetches the build's own packages
def test_a_wheel_holds_all_files_and_works_elsewhere(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "source" / "gp_jax", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        tmp_path,
        tmp_path / "source",
    ]
    subprocess.run(command, check=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("gp_jax/")}
        archive.extractall(tmp_path / "site")
    assert held == {
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert "gp_jax/py.typed" in held
    script = (
        "from gp_jax.cli.main import main; from gp_jax.checkpoint.folder import find_checkpoint;"
        "print(find_checkpoint('tiny')); main(['fetch', 'nothing'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "site", capture_output=True, text=True)
    assert str(tmp_path / "site") in str(Path(tmp_path / "site", done.stdout.strip()).resolve())
    assert "choose of lpips-alex" in done.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_message_names_a_file_outside_the_package(path):
    """Docstrings may, for who reads them has the repository; those of commands are help."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    } - ({id(tree.body[0].value)} if path.parent.name == "cli" else set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            assert "tools/" not in node.value, f"{path}:{node.lineno}"
