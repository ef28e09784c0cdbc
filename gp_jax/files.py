"""Files and folders that are replaced whole or not at all, and kept to one program at a time.

    with replacing("results.csv") as temporary:              # a name beside it, which becomes results.csv at the end
        temporary.write_text(text)
    with replacing_folder("checkpoint") as temporary:        # an empty folder beside it, the same
        write_tensors(temporary / "unet" / "model.safetensors", tensors)
    with locked("workdir"):                                  # a second program is refused meanwhile
        train()

Whoever looks at the name sees the old or the new, never half of either: after an error, a signal, a full disk, a power
cut, and with two programs at once. All that can stand in the way is asked before the work and again at its end: a
folder in the place of a file, a file that may only be read, a name that is too long. A link stays, and what it points
to is replaced; the new one has the mode and, where this is allowed, the owner of the old one.

What is being written has a short name that is nobody else's, and beside it lies a file that the kernel keeps locked as
long as the writer lives:

    .gp_jax-5f0c2a9e.lock      who writes what
    .gp_jax-5f0c2a9e.new.mp4   the new one
    .gp_jax-5f0c2a9e.old       the old folder, for a moment, where the file system cannot exchange two names

Everybody who writes into a folder first removes what the dead have left there, and puts an old folder back where no new
one stands. So a process that was killed needs no care, and one that lives on another host is let alone.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gp_jax.errors import UserError

_PREFIX = ".gp_jax-"
_written: dict[Path, str] = {}  # what this process has not finished: lock -> name of its target
_LOCK = ".lock"
_MOST_JSON = 2**26  # bytes

# Of linux/fs.h and fcntl.h.
_NOREPLACE, _EXCHANGE, _HERE = 1, 2, -100
_libc = ctypes.CDLL(None, use_errno=True)


def cache_folder() -> Path:
    """Where everything that is fetched lies: $GP_JAX_CACHE, else the user's cache folder."""
    if folder := os.environ.get("GP_JAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gp_jax")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object in a file; raises UserError where there is no file, or another thing in it."""
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            raise UserError(f"cannot read {path}: it is no file")
        if state.st_size > _MOST_JSON:
            raise UserError(f"cannot read {path}: it has {state.st_size} bytes, more than any JSON of a model")
        value = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"cannot read {path}: it is nested too deeply") from None
    except ValueError as error:  # no UTF-8, no JSON, a number of thousands of digits, a path with a null byte
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"cannot read {path}: it holds no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:60]!r} stands there twice")
        made[key] = value
    return made


def write_json(path: str | os.PathLike, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def is_within(name: str) -> bool:
    """Whether a path that somebody else wrote down leads to something in the folder that it is looked for in."""
    parts = Path(name).parts
    return bool(parts) and not os.path.isabs(name) and ".." not in parts and "\0" not in name


def is_name(name: str) -> bool:
    """Whether that is in the folder itself, and files and folders can be named after it."""
    is_part = is_within(name) and "/" not in name and not name.startswith(".")
    return is_part and name.isprintable() and len(os.fsencode(name)) <= 200


@contextmanager
def replacing(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """A name beside `path`, which the file that was written there takes from it when nothing failed.

    Args:
      path: its folder is made where it does not exist. The temporary name has the same suffix.
      overwrite: whether a file of that name may be replaced, be it there before or appear meanwhile.

    Raises:
      UserError: the file cannot be written, or is there already.
    """
    with _told(path):
        target = _target(path, overwrite)
        _check_regular(path, target)
        suffix = target.suffix if len(os.fsencode(target.suffix)) <= 16 else ""
        with _beside(target, suffix) as temporary:
            yield temporary
            _sync(temporary)
            try:
                _put(temporary, _target(path, overwrite), overwrite)
            except FileExistsError:
                raise _taken(path) from None


def check_file(path: str | os.PathLike) -> None:
    """Raises UserError where `replacing` could not write this file, as far as that can be known before."""
    with _told(path):
        target = _target(path, overwrite=True)
        _check_regular(path, target)
        there = next(folder for folder in target.parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"cannot write {path}: {there} is no folder that can be written to; choose another name")


@contextmanager
def replacing_folder(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """An empty folder beside `path`, which takes its place, with all that it holds then, when nothing failed.

    Args:
      path: the folder around it is made where it does not exist.
      overwrite: whether a folder of that name may be replaced, and all that it holds; an empty one always is.

    Raises:
      UserError: the folder cannot be written, is a file, or is there already.
    """
    with _told(path):
        target = _target(path, overwrite)
        if target.exists() and not target.is_dir():
            raise UserError(f"cannot write {path}: it is no folder")
        with _beside(target) as temporary:
            temporary.mkdir()
            try:
                yield temporary
            except UserError as error:  # about a file within, which nobody knows by this name
                raise UserError(str(error).replace(str(temporary), str(path))) from error
            for folder, _, names in os.walk(temporary):
                for name in (*names, "."):
                    _sync(Path(folder, name))
            try:
                _put_folder(temporary, _target(path, overwrite), overwrite)
            except FileExistsError:
                raise _taken(path) from None


@contextmanager
def locked(folder: str | os.PathLike, part: str = "", *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Keeps other programs out of a folder, which is made where it does not exist; the kernel ends this at death.

    Args:
      folder: `.gp_jax.lock` lies there meanwhile.
      part: of the work in this folder, such as "0-of-4", where programs share it.
      shared: keeps out only those that want the folder for themselves.
      wait: for the other program, rather than be refused.

    Raises:
      UserError: another program has it; says which.
    """
    with _told(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    lock, about = (f".gp_jax.{part}{_LOCK}", f"{folder} ({part})") if part else (f".gp_jax{_LOCK}", str(folder))
    with _alone(Path(folder, lock), about, shared, wait):
        yield


def check_outside(target: Path, source: Path) -> None:
    """Raises UserError where `target` lies within the folder `source`, of which it is to be made."""
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target} is within {source}, which is read: choose a folder elsewhere")


@contextmanager
def reserved(path: str | os.PathLike) -> Iterator[None]:
    """Keeps other programs from making the same file or folder; as `locked`, by a file beside `path`.

    Folders that are made for it go again where nothing came of it.
    """
    with _told(path):
        target = _resolve(path)
        new = [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    try:
        with _alone(target.with_name(f"{_PREFIX}{name}{_LOCK}"), str(path)):
            yield
    finally:
        with contextlib.suppress(OSError):  # something was made there
            for folder in new:
                folder.rmdir()


@contextmanager
def _told(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _taken(path: str | os.PathLike) -> UserError:
    return UserError(f"{path} exists already: choose another name, or remove it first")


def _resolve(path: str | os.PathLike) -> Path:
    """What a link points to in the end, else the path itself; raises OSError where no file can have this name."""
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(target.lstat().st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _target(path: str | os.PathLike, overwrite: bool) -> Path:
    """What is to be replaced; raises UserError where it may not be."""
    target = _resolve(path)
    if target.exists():
        if not overwrite and not (target.is_dir() and not any(target.iterdir())):
            raise _taken(path)
        # Root may write everything; what has not a single write bit is meant to stay nevertheless.
        if not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK):
            raise UserError(f"cannot write {path}: it is read-only; make it writable, or choose another name")
    return target


def _check_regular(path: str | os.PathLike, target: Path) -> None:
    if target.exists() and not target.is_file():
        raise UserError(f"cannot write {path}: it is {'a folder' if target.is_dir() else 'no regular file'}")


@contextmanager
def _beside(target: Path, suffix: str = "") -> Iterator[Path]:
    """A free name beside `target`; what bears it is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    while True:
        lock = target.with_name(f"{_PREFIX}{secrets.token_hex(4)}{_LOCK}")
        with contextlib.suppress(BlockingIOError):  # somebody looks whether its owner is dead
            file, _ = _acquire(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
    _written[lock] = target.name
    try:
        os.write(file, json.dumps({"target": target.name}).encode())
        yield lock.with_suffix(f".new{suffix}")
    finally:
        try:
            _clear_quietly(lock, target.name)
        except BaseException:  # a signal, in the middle of it
            _clear_quietly(lock, target.name)
            raise
        finally:
            del _written[lock]
            os.close(file)


def abandon() -> None:
    """Removes what this process has written half: for its end, where nothing can unwind any more."""
    for lock, name in list(_written.items()):
        _clear_quietly(lock, name)


def _sweep(folder: Path) -> None:
    """Removes what the dead have left in a folder."""
    for lock in folder.glob(f"{_PREFIX}*{_LOCK}"):
        with contextlib.suppress(OSError):  # somebody lives, or is another user
            file = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(file, lock):
                    _clear(lock, str(_note(file).get("target", "")))
            finally:
                os.close(file)


def _clear_quietly(lock: Path, name: str) -> None:
    with contextlib.suppress(OSError):  # then the next writer does it
        _clear(lock, name)


def _clear(lock: Path, name: str) -> None:
    """Removes a lock and what belongs to it; an old folder is put back where no new one stands."""
    old = lock.with_suffix(".old")
    if old.exists() and name == os.path.basename(name) and not Path(lock.parent, name).exists():
        old.rename(Path(lock.parent, name))
    for path in lock.parent.glob(f"{lock.stem}.*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != lock:
            path.unlink()
    lock.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path, about: str, shared: bool = False, wait: bool = False) -> Iterator[None]:
    with _told(about):
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            file, is_locked = _acquire(lock, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{about} is in use by {_holder(lock)}: wait for its end, or choose another name") from None
    if not is_locked:
        print(f"gp-jax: {lock.parent} cannot be locked: let no other program work there", file=sys.stderr)
    try:
        with _told(about):
            os.ftruncate(file, 0)
            os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # others share it, or there are no locks here
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink()
        os.close(file)


def _acquire(lock: Path, kind: int) -> tuple[int, bool]:
    """Opens and locks a file; False where its file system has no locks; raises as `flock`."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, kind)
            if _is_at(file, lock):
                return file, True
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                return file, False
            os.close(file)
            raise
        os.close(file)  # whoever had it removed it meanwhile


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one of this name still."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False


def _holder(lock: Path) -> str:
    note = {}
    with contextlib.suppress(OSError):
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        note = _note(file)
        os.close(file)
    return f"process {note['pid']} on {note['host']}" if {"pid", "host"} <= note.keys() else "another program"


def _note(file: int) -> dict[str, Any]:
    """What a lock says; empty where whoever has it has not written it yet."""
    with contextlib.suppress(ValueError, RecursionError):
        note = json.loads(os.pread(file, 4096, 0))
        return note if isinstance(note, dict) else {}
    return {}


def _put(temporary: Path, target: Path, overwrite: bool) -> None:
    """Gives a file its name; raises FileExistsError."""
    if overwrite:
        _take_after(temporary, target)
    elif _rename(temporary, target, _NOREPLACE):
        return
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    temporary.replace(target)
    _sync(target.parent)


def _put_folder(temporary: Path, target: Path, overwrite: bool) -> None:
    """Gives a folder its name, and the one that had it a temporary one; raises FileExistsError."""
    _take_after(temporary, target)
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not overwrite:
            raise FileExistsError from None
        if not _rename(temporary, target, _EXCHANGE):
            _sync(temporary.with_suffix(_LOCK))
            target.rename(temporary.with_suffix(".old"))  # `_clear` puts it back, should the next line fail
            temporary.rename(target)
    _sync(target.parent)


def _take_after(new: Path, old: Path) -> None:
    """Mode and owner of the old one, as far as this user may give them."""
    with contextlib.suppress(FileNotFoundError):
        was = old.stat()
        with contextlib.suppress(PermissionError):
            os.chown(new, was.st_uid, was.st_gid)
        with contextlib.suppress(PermissionError):
            new.chmod(stat.S_IMODE(was.st_mode))


def _rename(old: Path, new: Path, how: int) -> bool:
    """Linux's rename under a condition, in one step; False where kernel or file system have no such thing."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(old), _HERE, os.fsencode(new), how) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(new))


def _sync(path: Path) -> None:
    """Waits until a file is on disk, or the names of a folder, where folders can be asked for that."""
    if path.is_symlink():
        return
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(file)
