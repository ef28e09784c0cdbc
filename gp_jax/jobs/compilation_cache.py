"""Compiled programs are kept between runs, so that a second start does not compile again what the first one did.

They lie in the user's cache folder, $GP_JAX_CACHE/programs or ~/.cache/gp_jax/programs, beside traced ones (kept.py),
at most 2 GiB of them. GP_JAX_COMPILATION_CACHE=off does without; JAX_COMPILATION_CACHE_DIR, JAX's own setting, names
another folder, which is nobody's business but JAX's. A folder that cannot be written and an entry that is damaged only
cost time.
"""

import contextlib
import os
import warnings
from pathlib import Path

import jax

from gp_jax.files import cache_folder

SWITCH = "GP_JAX_COMPILATION_CACHE"
MOST_BYTES = 2 * 2**30
LEAST_SECONDS = 0.1  # what compiles faster is not kept


def keep_programs() -> None:
    """Switches the cache on for this process, unless somebody has decided already."""
    decided = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue] - made at run time
    if os.environ.get(SWITCH, "").lower() in ("off", "0") or decided:
        return
    folder = cache_folder() / "programs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what lies there is run
    except OSError:
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    _sweep(folder)
    # It is compiled anew then, as if it were not there.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def kept_folder() -> Path | None:
    """Where this process keeps programs, None where it keeps none, or JAX alone does."""
    folder = cache_folder() / "programs"
    chosen = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue] - made at run time
    return folder if chosen == str(folder) else None


def _sweep(folder: Path) -> None:
    """Removes what was not read for longest, until the rest is small enough. Other processes may do the same."""
    with contextlib.suppress(OSError):
        entries = [(entry, entry.stat()) for entry in folder.iterdir()]
        total = 0
        for entry, status in sorted(entries, key=lambda item: -max(item[1].st_atime, item[1].st_mtime)):
            total += status.st_size
            if total > MOST_BYTES:
                entry.unlink(missing_ok=True)
