"""Downloads, which go on where they broke off, and files out of archives. What a file holds is of no concern here."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import lzma
import os
import secrets
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from piwsl.catalogue import Source
from piwsl.errors import PiwslError, reason
from piwsl.files import NO_ROOM_ADVICE, file_hash, is_no_room, read_json, write_atomically, write_json

ATTEMPTS = 6
# Doubled from one attempt to the next: half a minute in all.
PAUSE_S = 1.0
CONNECT_S, SILENT_S = 30.0, 60.0
# Of a request that goes on where the last one ended, and of memory.
CHUNK_BYTES = 8 * 2**20
REPORT_S = 5.0
MB = 1e6
NAMES_SHOWN = 5
# Refusals that pass: a request that took too long, too many of them.
BUSY = (408, 429)
COMPRESSED: dict[bytes, Callable[..., IO[Any]]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""How what begins so is read."""
DAMAGES = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError
)  # fmt: skip
# What another attempt may mend, full disks aside.
PASSING = (aiohttp.ClientError, OSError)


@dataclass(frozen=True)
class _State:
    """What the server says of a file: what was downloaded of another is not gone on with."""

    address: str
    size: int | None
    version: str | None
    """Its tag, or when it was changed."""


def download(source: Source, attempts: int = ATTEMPTS, pause_s: float = PAUSE_S) -> None:
    """Download a file, or the rest of it, and check it; what is there already is kept until an interruption is over.

    Its SHA-256 is that of the catalogue, or that of the first download, which is kept in a JSON file beside it.

    Args:
        source: address, and where the file shall lie.
        attempts: how often the connection may break.
        pause_s: seconds before the second attempt, then twice as long each time.

    Raises:
        PiwslError: the file is not at the address, the disk has no room, the connection breaks again and again, or the
            file is not what it should be.
    """
    path, part = source.path, _part(source.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _errors_in_one_line(source), _alone(path.parent):
        if path.exists():  # of another process, while this one waited
            return
        for attempt in range(attempts):
            try:
                doubtful = _fetch(source, part)
            except PASSING as error:
                if is_no_room(error) or attempt + 1 == attempts:
                    raise
                print(f"{path.name}: {reason(error)}; again in {pause_s * 2**attempt:g} s", flush=True)
                time.sleep(pause_s * 2**attempt)
                continue
            problem = _problem(source, part)
            if problem is None:
                _place(source, part)
                return
            _discard(part)
            if not doubtful or attempt + 1 == attempts:
                raise PiwslError(problem)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into a folder: two would write into one partial file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some shared disks know no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _errors_in_one_line(source: Source) -> Iterator[None]:
    try:
        yield
    except PASSING as error:
        if is_no_room(error):
            raise PiwslError(f"{source.path}: {NO_ROOM_ADVICE}") from error
        raise PiwslError(
            f"{source.address}: {reason(error)}; what is downloaded is kept: start again, or get it elsewhere and say "
            "path"
        ) from error


def _file_system() -> HTTPFileSystem:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
    # Compressed on the way, a file would have another size, and no part to go on with.
    headers = {"User-Agent": "piwsl", "Accept-Encoding": "identity"}
    return HTTPFileSystem(client_kwargs={"timeout": timeout, "trust_env": True}, headers=headers)


def _fetch(source: Source, part: Path) -> bool:
    """Download what a partial file lacks; return whether it may be wrong though all there was to come came.

    It may where it was put together, or where the server named no size and the connection may have broken.

    Raises:
        OSError: the disk has no room, or the connection broke.
        aiohttp.ClientError: likewise.
    """
    files = _file_system()
    found = _info(files, source.address)
    state = _State(source.address, found["size"], found.get("ETag") or found.get("Last-Modified"))
    done = _done(part, state)
    _check_room(source, part, state, done)
    try:
        chunks = _rest(files, state, done) if done else _whole(files, state)
        _append(part, chunks, state, done)
    except ValueError:  # of fsspec: the server sends all of a file or nothing
        print(f"{source.path.name}: the server sends no parts of files; from the start", flush=True)
        _append(part, _whole(files, state), state, 0)
        return state.size is None
    return done > 0 or state.size is None


def _info(files: HTTPFileSystem, address: str) -> dict[str, Any]:
    """Ask for size and version of a file.

    Raises:
        PiwslError: the server refuses, which it will do again.
        OSError: it does not answer, or is busy.
    """
    try:
        return dict(files.info(address))
    except FileNotFoundError as error:  # fsspec says so of everything
        cause = error.__cause__ or error
        if isinstance(cause, aiohttp.ClientResponseError) and cause.status not in BUSY and cause.status < 500:
            said = f"the server says {cause.status} {cause.message}"
            raise PiwslError(f"{address}: {said}; get it elsewhere, and say path") from error
        raise ConnectionError(reason(cause)) from error


def _done(part: Path, state: _State) -> int:
    """Return how many bytes of a file are there; none where they may be another's."""
    kept = _note(part)
    known = state.size is not None and state.version is not None
    same = known and part.exists() and kept.exists() and read_json(kept) == asdict(state)
    done = part.stat().st_size if same else 0
    if not same or (state.size is not None and done > state.size):
        _discard(part)
        write_json(kept, asdict(state))
        return 0
    return done


def _check_room(source: Source, part: Path, state: _State, done: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if state.size is not None and state.size - done > free:
        raise PiwslError(
            f"{source.path}: takes {(state.size - done) / MB:,.1f} MB more, and the disk has {free / MB:,.1f} MB; free "
            "some"
        )


def _whole(files: HTTPFileSystem, state: _State) -> Iterator[bytes]:
    """Download a file in one request."""
    with files.open(state.address, "rb", block_size=0, size=state.size) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _rest(files: HTTPFileSystem, state: _State, start: int) -> Iterator[bytes]:
    """Download a file from some byte on."""
    with files.open(state.address, "rb", block_size=CHUNK_BYTES, cache_type="none", size=state.size) as stream:
        if not stream.seekable():
            raise ValueError("no parts")
        stream.seek(start)
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _append(part: Path, chunks: Iterator[bytes], state: _State, done: int) -> None:
    """Write what comes to the end of a partial file, and say now and then how far it is.

    Raises:
        OSError: it ends before the size that the server named.
    """
    said = time.monotonic()
    whole = "" if state.size is None else f" of {state.size / MB:,.1f}"
    with part.open("r+b" if done else "wb") as file:
        file.seek(done)
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            if time.monotonic() - said > REPORT_S:
                said = time.monotonic()
                print(f"{_name(part)}: {done / MB:,.1f}{whole} MB", flush=True)
    if state.size is not None and done < state.size:
        raise OSError(f"ended after {done:,} of {state.size:,} bytes")
    print(f"{_name(part)}: {done / MB:,.1f} MB downloaded", flush=True)


def _problem(source: Source, part: Path) -> str | None:
    """Say why a downloaded file is not what it should be; None where it is, or nothing is known of it."""
    record = _record(source.path)
    first = read_json(record) if record.exists() else {}
    known = source.sha256 or (first.get("sha256") if first.get("address") == source.address else None)
    found = file_hash(part)
    if known in (None, found):
        return None
    whose = "the catalogue has" if source.sha256 else f"it had when it was first downloaded ({record})"
    return f"{source.address}: has SHA-256 {found}, and {known} is what {whose}; get it elsewhere, and say path"


def _place(source: Source, part: Path) -> None:
    found = {"address": source.address, "sha256": file_hash(part), "bytes": part.stat().st_size}
    write_json(_record(source.path), found)
    part.replace(source.path)
    _note(part).unlink(missing_ok=True)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _name(part: Path) -> str:
    return part.name.removeprefix(".").removesuffix(".part")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def unpack(archive: Path, sources: Sequence[Source]) -> None:
    """Write files of an archive, tar or zip, to where they shall lie, in one reading; nothing else is unpacked.

    Args:
        archive: the file.
        sources: name members of it: each by the end of its path there, for folders around it vary.

    Raises:
        PiwslError: the archive has no such file, or several, or is damaged; or what has the name is no file. None is
            written then.
    """
    token = secrets.token_hex(8)
    unpacked = {source: source.path.with_name(f".{source.path.name}-{token}.unpacked") for source in sources}
    found: dict[Source, set[str]] = {source: set() for source in sources}
    names = []
    try:
        for member in _members(archive):
            names.append(member.name)
            for source in filter(member.is_of, sources):
                found[source].add(member.name)
                _write(unpacked[source], archive, member)
        for source in sources:
            _check_only(archive, source, sorted(found[source]), names)
        for source, path in unpacked.items():
            path.replace(source.path)
    except DAMAGES as error:
        raise PiwslError(f"{archive}: {reason(error)}; is it whole?") from error
    except OSError as error:
        if error.errno is not None:  # of the disk
            raise
        raise PiwslError(f"{archive}: {reason(error)}; is it whole?") from error
    finally:
        for path in unpacked.values():
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Member:
    """What an archive holds under a name."""

    name: str
    open: Callable[[], IO[bytes]] | None
    """None of a link, a folder and whatever else is no file."""

    def is_of(self, source: Source) -> bool:
        """Whether the name is, or ends in, the path of a source."""
        return self.name == source.member or self.name.endswith(f"/{source.member}")


def _members(archive: Path) -> Iterator[_Member]:
    """Yield what an archive holds; a member can be opened until the next is asked for."""
    # A tar may end in a zip, and be taken for one.
    if not tarfile.is_tarfile(archive) and zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                no_file = info.is_dir() or stat.S_ISLNK(info.external_attr >> 16)
                yield _Member(info.filename, None if no_file else partial(zipped.open, info))
        return
    # As a stream: to go back in what is compressed is to begin anew.
    with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tarred:
        for entry in tarred:
            yield _Member(entry.name, partial(_extracted, tarred, entry) if entry.isfile() else None)
        while stream.read(CHUNK_BYTES):  # to its end, where gzip has a checksum
            pass


def _decompressed(archive: Path) -> IO[bytes]:
    """Open a file, gzip, bzip2 or xz, that may consist of several compressed streams; tarfile reads one."""
    with archive.open("rb") as file:
        start = file.read(max(map(len, COMPRESSED)))
    opened = next((opened for magic, opened in COMPRESSED.items() if start.startswith(magic)), open)
    return cast("IO[bytes]", opened(archive, "rb"))


def _extracted(tarred: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = tarred.extractfile(entry)
    assert stream is not None
    return stream


def _write(path: Path, archive: Path, member: _Member) -> None:
    if member.open is None:
        raise PiwslError(f"{archive}: {member.name} is a link or a folder, not a file")
    with member.open() as stream:

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK_BYTES)

        write_atomically(path, write)


def _check_only(archive: Path, source: Source, found: list[str], names: list[str]) -> None:
    if len(found) != 1:
        shown = ", ".join((found or sorted(names))[:NAMES_SHOWN])
        raise PiwslError(f"{archive}: {len(found)} files are {source.member}; it holds {shown or 'nothing'}")
