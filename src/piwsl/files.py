"""Writing files so that a reader never sees half of one, and reading them back. No knowledge of their content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from piwsl.errors import PiwslError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What disks without hard links say of one.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# More than a record takes.
PROBE_BYTES = 65536
# Libraries that write by themselves say it in words.
NO_ROOM_TEXTS = ("errno 28", "errno = 28", "no space left", "disk quota", "file too large", "cannot write data")
NO_ROOM_ADVICE = "no room left on the disk; free some, then start again: what is finished is kept"
# Lines of logs are shorter.
LAST_LINE_BYTES = 8192
# What the machine refuses: nothing that a traceback would explain.
REFUSALS = {
    errno.EROFS: "the disk can only be read; choose a place that can be written to",
    errno.EACCES: "permission denied; choose another place, or ask its owner",
    errno.EPERM: "not permitted; choose another place, or ask its owner",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "is a file, not a folder",
    errno.EISDIR: "is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk does not answer; start again when it does",
    errno.ESTALE: "the file server has lost it; start again",
}


def is_no_room(error: BaseException | None) -> bool:
    """Whether an exception, or one that it comes from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if any(text in str(error).lower() for text in NO_ROOM_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def refusal(error: BaseException) -> str | None:
    """Say in one line why the machine refused to read or write, or None where the error is of another kind.

    Args:
        error: what was raised.
    """
    name = getattr(error, "filename", None)
    where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
    if is_no_room(error):
        return where + NO_ROOM_ADVICE
    if isinstance(error, OSError) and where and error.errno in REFUSALS:
        return where + REFUSALS[error.errno]
    return None


def check_outputs(outputs: list[Path], inputs: list[Path]) -> None:
    """Check that files can be written, before what is written in them is computed; missing folders are made.

    Args:
        outputs: files to write; those that are there may be replaced.
        inputs: files that must stay as they are.

    Raises:
        PiwslError: a path is a folder, a device or one of the inputs, two are one file, or the disk refuses.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in taken:
            raise PiwslError(f"{path} would be overwritten: it is read, or written with other content; name another")
        taken.add(path.resolve())
        if path.is_dir():
            raise PiwslError(f"{path} is a folder; name a file")
        if path.exists() and not path.is_file():
            raise PiwslError(f"{path} is a device or a pipe, which a file would take the place of; name a file")
        try:
            with _naming(path):
                _write_and_remove(path)
        except OSError as error:
            raise PiwslError(refusal(error) or f"{path} cannot be written: {error.strerror}") from None


def _write_and_remove(path: Path) -> None:
    """Write a few bytes beside a path, and take them away again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    try:
        os.write(handle, b"\n" * 256)
    finally:
        os.close(handle)
        os.unlink(name)


def write_atomically(
    path: Path, write: Callable[[Path], object], place: Callable[[Path, Path], object] = Path.replace
) -> None:
    """Let `write` fill a temporary file beside `path`, then move it there in one step.

    Args:
        path: where the file shall be; folders are made.
        write: called with the temporary path (same suffix as `path`).
        place: puts the temporary file into its place; by default over what is there.

    Raises:
        OSError: the disk is full or refuses; it names `path`.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
        # Made as any other file is: who may read it is the umask's to say.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            write(temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            place(temporary, path)
        except Exception as error:  # torch, for one, fails on a full disk without saying why
            if is_no_room(error) or _is_full(temporary):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors of a temporary file beside a path errors of that path."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)).name.startswith(f".{path.stem}-"):
            error.filename = str(path)
        raise


def _is_full(temporary: Path) -> bool:
    """Ask the disk itself whether it takes more than may be left in the last block of a file."""
    try:
        with temporary.open("ab") as file:
            file.write(bytes(65536))
    except OSError as error:
        return error.errno in NO_ROOM
    return False


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_new_json(path: Path, value: Any) -> bool:
    """Write a value as indented JSON, atomically, unless something is there; return whether it was written.

    Of two that write at once, one does.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), _place_new)
    except FileExistsError:
        if not os.path.lexists(path):  # a folder of the path is a file
            raise
        return False
    return True


def _place_new(temporary: Path, path: Path) -> None:
    """Give a file its name in one step, where nothing has that name."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)


def probe(folder: Path) -> None:
    """Write some bytes to a folder, down to the disk, and take them away again; it is made where there is none.

    Raises:
        OSError: the disk is full or refuses, or a quota is used up; it names the folder.
    """
    with _naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{folder.stem}-") as file:
            file.write(os.urandom(PROBE_BYTES))  # which no disk compresses
            file.flush()
            os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def last_line(path: Path) -> str:
    """Return the last line of a text file that says anything, of which no more than the end is read; "" of none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINE_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def unchanged(paths: Iterable[str]) -> Iterator[None]:
    """Make sure that files stay what they are while something is made of them.

    What was made would be newer than the file that was edited, and so would never be made again.

    Args:
        paths: files of the user's.

    Raises:
        PiwslError: at the end; one of them was edited.
    """
    before = {path: _stamp(path) for path in paths}
    yield
    for path, stamp in before.items():
        if _stamp(path) != stamp:
            raise PiwslError(f"{path}: edited while it was read; start again")


def _stamp(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns, status.st_size
