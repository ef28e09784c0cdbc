"""A folder that knows what its files hold, so that what the disk has changed is noticed before it is read.

write_checksums(folder)              folder/checksums.json: the sha256 of each file in the folders within
difference(folder)                   "state/d/5c1f was changed", or None
"""

import hashlib
from pathlib import Path

from gp_jax.errors import UserError
from gp_jax.files import read_json, write_json

FILE = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Notes what the folders within `folder` hold; files that lie in itself are not looked at."""
    write_json(folder / FILE, {name: _sha256(folder / name) for name in sorted(_names(folder))})


def difference(folder: Path) -> str | None:
    """What of a folder is not as it was noted, in a few words; None where all is, or nothing was noted."""
    if not (folder / FILE).is_file():
        return None
    try:
        noted, there = read_json(folder / FILE), _names(folder)
        for name in sorted(noted.keys() | there):
            if name not in there:
                return f"{name} is missing"
            if name not in noted:
                return f"{name} was added"
            if _sha256(folder / name) != noted[name]:
                return f"{name} was changed"
    except (OSError, UserError) as error:
        return str(error)
    return None


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*/**/*") if not path.is_dir()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
