"""Downloads from a server that breaks off, lies, or knows no parts of files; files out of archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from piwsl.catalogue import Source, download
from piwsl.catalogue.download import unpack
from piwsl.errors import PiwslError
from piwsl.files import read_json

CONTENT = bytes(range(256)) * 8000  # 2 MB
# In buffers between a server and a client's disk.
ON_ITS_WAY = 200_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server of one file on loopback, which does what a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.version = "one"
        self.ranges = True
        self.sized = True
        self.breaks: list[int] = []
        """After how many bytes the next answers end."""
        self.part: Path | None = None
        """Where a client writes: a whole answer does not break before nearly all of it has arrived there."""
        self.statuses: list[int] = []
        """What the next requests are refused with."""
        self.sent: list[tuple[int, int]] = []
        """First byte of each answer, and how many were sent."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.npz"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _head(self, start: int, stop: int) -> None:
        server = self.server
        self.send_response(206 if (start, stop) != (0, len(server.content)) else 200)
        self.send_header("ETag", f'"{server.version}"')
        if (start, stop) != (0, len(server.content)):
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(server.content)}")
        if server.sized:
            self.send_header("Content-Length", str(stop - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def _refused(self) -> bool:
        if not self.server.statuses:
            return False
        self.send_error(self.server.statuses.pop(0))
        return True

    def do_HEAD(self) -> None:
        if not self._refused():
            self._head(0, len(self.server.content))

    def do_GET(self) -> None:
        server = self.server
        if self._refused():
            return
        start, stop = 0, len(server.content)
        if server.ranges and (asked := self.headers.get("Range")):
            first, last = asked.removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1 if last else stop, stop)
        self._head(start, stop)
        sent = server.content[start:stop]
        if server.breaks:
            sent = sent[: server.breaks.pop(0)]
            self.close_connection = True
        server.sent.append((start, len(sent)))
        try:
            self.wfile.write(sent)
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        if start == 0 and len(sent) < stop and server.part is not None:
            wait_until_it_has(server.part, len(sent) - ON_ITS_WAY)


def wait_until_it_has(path: Path, size: int) -> None:
    """Wait until a file has so many bytes, two minutes at most."""
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline and not (path.exists() and path.stat().st_size >= size):
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetched(server: Server, folder: Path, sha256: str | None = SHA256, attempts: int = 4) -> Path:
    source = Source(folder / "set.npz", server.address, sha256)
    download.download(source, attempts=attempts, pause_s=0.0)
    return source.path


def refused(server: Server, folder: Path, **how) -> str:
    with pytest.raises(PiwslError) as raised:
        fetched(server, folder, **how)
    assert "\n" not in str(raised.value)
    assert not (folder / "set.npz").exists()
    return str(raised.value)


def test_what_is_downloaded_is_recorded(server, tmp_path):
    path = fetched(server, tmp_path, None)
    assert path.read_bytes() == CONTENT
    assert read_json(tmp_path / "set.npz.json") == {
        "address": server.address,
        "sha256": SHA256,
        "bytes": len(CONTENT),
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set.npz", "set.npz.json"]


def test_a_connection_that_breaks_goes_on_where_it_broke(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "CHUNK_BYTES", 100_000)
    server.breaks, server.part = [700_000, 100_000, 50_000], tmp_path / ".set.npz.part"
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    starts = [start for start, _ in server.sent]
    assert starts.count(0) == 1
    # What was on its way when it broke comes again.
    assert len(CONTENT) <= sum(sent for _, sent in server.sent) < len(CONTENT) + 400_000
    assert capsys.readouterr().out.count("again in 0 s") == 2


@pytest.mark.parametrize("sized", [True, False])
def test_a_long_download_says_how_far_it_is(server, tmp_path, monkeypatch, capsys, sized):
    monkeypatch.setattr(download, "CHUNK_BYTES", 500_000)
    monkeypatch.setattr(download, "REPORT_S", -1.0)
    server.sized = sized
    fetched(server, tmp_path)
    *progress, last = capsys.readouterr().out.splitlines()
    whole = " of 2.0 MB" if sized else " MB"
    assert len(progress) > 1
    assert all(line.startswith("set.npz: ") and line.endswith(whole) for line in progress)
    done = [float(line.removeprefix("set.npz: ").removesuffix(whole)) for line in progress]
    assert done == sorted(done)
    assert done[0] < 2.0
    assert last == "set.npz: 2.0 MB downloaded"


def test_a_process_that_was_stopped_goes_on_where_it_was(server, tmp_path):
    server.breaks, server.part = [700_000], tmp_path / ".set.npz.part"
    assert "what is downloaded is kept" in refused(server, tmp_path, attempts=1)
    kept = (tmp_path / ".set.npz.part").stat().st_size
    assert 400_000 < kept <= 700_000
    server.sent.clear()
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert [start for start, _ in server.sent] == [kept]


def test_two_processes_download_a_file_once(server, tmp_path):
    workers = [threading.Thread(target=fetched, args=(server, tmp_path)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert [start for start, _ in server.sent] == [0]


def test_another_version_is_not_gone_on_with(server, tmp_path):
    server.breaks = [700_000]
    refused(server, tmp_path, attempts=1)
    server.version, server.content = "two", CONTENT[::-1]
    assert fetched(server, tmp_path, hashlib.sha256(CONTENT[::-1]).hexdigest()).read_bytes() == CONTENT[::-1]


def test_a_server_without_parts_of_files_begins_again(server, tmp_path, capsys):
    server.ranges, server.breaks = False, [700_000]
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert "sends no parts of files; from the start" in capsys.readouterr().out


@pytest.mark.parametrize("breaks", [0, 3])
def test_a_server_that_names_no_size(server, tmp_path, breaks):
    """Where the end of an answer says nothing; fsspec asks for the size in two ways, and twice."""
    server.sized, server.breaks = False, [700_000] * breaks
    assert fetched(server, tmp_path).read_bytes() == CONTENT


def test_what_always_ends_too_soon_is_refused(server, tmp_path):
    server.ranges, server.breaks = False, [1000] * 20
    said = refused(server, tmp_path)
    assert said.startswith(f"{server.address}: ")
    assert "what is downloaded is kept: start again" in said


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, tmp_path):
    said = refused(server, tmp_path, sha256="0" * 64)
    assert f"has SHA-256 {SHA256}, and {'0' * 64} is what the catalogue has" in said
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_was_spoilt_is_downloaded_anew(server, tmp_path):
    server.breaks = [700_000]
    refused(server, tmp_path, attempts=1)
    (tmp_path / ".set.npz.part").write_bytes(bytes(600_000))
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert [start for start, _ in server.sent] == [0, 600_000, 0]


def test_a_file_that_is_another_than_at_its_first_download_is_refused(server, tmp_path):
    fetched(server, tmp_path, None).unlink()
    server.content = CONTENT[::-1]
    said = refused(server, tmp_path, sha256=None)
    assert "is what it had when it was first downloaded" in said


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.statuses = [status] * 4  # fsspec asks twice each time
    assert fetched(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_not_asked_for_again(server, tmp_path, status):
    server.statuses = [status] * 2
    assert f"{server.address}: the server says {status} " in refused(server, tmp_path)
    assert server.statuses == []


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(
        PiwslError, match=r"http://127.0.0.1:9/set.npz: ConnectionError: .*get it elsewhere and say path"
    ):
        download.download(Source(tmp_path / "set.npz", "http://127.0.0.1:9/set.npz"), attempts=2, pause_s=0.0)


@pytest.mark.parametrize("sized", [True, False])
def test_a_full_disk_is_said_at_once_and_where_the_size_is_not_known_when_it_is_full(server, disk, sized):
    server.sized = sized
    said = refused(server, disk)
    assert ("takes 2.0 MB more, and the disk has 1.0 MB" if sized else "no room left on the disk") in said
    assert (server.sent == []) == sized


# Archives.


def packed(folder: Path, kind: str, members: dict[str, bytes]) -> Path:
    path = folder / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:bz2") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def twice_compressed(path: Path, module: ModuleType) -> Path:
    """Write an archive as tools do that compress its pieces at once."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in {"a.npz": b"right", "big": os.urandom(50_000)}.items():
            info = tarfile.TarInfo(f"data/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    whole = plain.getvalue()
    path.write_bytes(module.compress(whole[:10_000]) + module.compress(whole[10_000:]))
    return path


def taken(archive: Path, member: str = "data/a.npz") -> Path:
    source = Source(archive.parent / "here" / "a.npz", "http://nowhere", None, member, archive)
    unpack(archive, [source])
    return source.path


@pytest.mark.parametrize("kind", ["zip", "tar.bz2"])
def test_one_file_of_an_archive_is_unpacked_and_no_other(tmp_path, kind):
    evil = {"../escaped": b"x", "/absolute": b"x", "set/data/../../../b.npz": b"x", "set/data/a.npz": b"right"}
    path = packed(tmp_path, kind, evil)
    assert taken(path).read_bytes() == b"right"
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "here",
        "here/a.npz",
        path.name,
    ]


@pytest.mark.parametrize("kind", ["zip", "tar.bz2"])
def test_several_files_come_out_of_one_reading_or_none(tmp_path, kind, monkeypatch):
    path = packed(tmp_path, kind, {f"set/{name}.csv": name.encode() for name in "abc"})
    read = download._members
    readings: list[Path] = []
    monkeypatch.setattr(download, "_members", lambda archive: readings.append(archive) or read(archive))
    sources = {
        name: Source(tmp_path / "here" / f"{name}.csv", "http://nowhere", None, f"{name}.csv", path) for name in "acd"
    }
    with pytest.raises(PiwslError, match=r"0 files are d\.csv"):
        unpack(path, [sources["a"], sources["d"]])
    assert not [*(tmp_path / "here").iterdir()]
    unpack(path, [sources["c"], sources["a"]])
    assert {file.name: file.read_bytes() for file in (tmp_path / "here").iterdir()} == {"a.csv": b"a", "c.csv": b"c"}
    assert readings == [path, path]


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_archives_of_several_compressed_streams(tmp_path, module):
    path = twice_compressed(tmp_path / "set.tar.x", module)
    assert taken(path).read_bytes() == b"right"
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000] + bytes(100) + whole[20_100:])
    with pytest.raises(PiwslError, match="is it whole"):
        taken(path, "data/big")


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    inner = packed(tmp_path, "zip", {"inner.txt": b"x"}).read_bytes()
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {"data/a.npz": b"right", "data/z.zip": inner}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert taken(path).read_bytes() == b"right"


@pytest.mark.parametrize("kind", ["zip", "tar.bz2"])
def test_a_file_that_is_not_in_the_archive_or_twice(tmp_path, kind):
    path = packed(tmp_path, kind, {"one/data/a.npz": b"1", "two/data/a.npz": b"2", "xdata/a.npz": b"3"})
    with pytest.raises(PiwslError, match=r"2 files are data/a\.npz; it holds one/data/a.npz, two/data/a\.npz"):
        taken(path)
    with pytest.raises(PiwslError, match=r"0 files are data/b\.npz; it holds one/data/a\.npz, "):
        taken(path, "data/b.npz")
    assert taken(path, "one/data/a.npz").read_bytes() == b"1"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, "zip"])
def test_links_and_what_is_no_file_are_refused(tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    if kind == "zip":
        path, info = tmp_path / "set.zip", zipfile.ZipInfo("data/a.npz")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(info, str(tmp_path / "secret"))
    else:
        path, member = tmp_path / "set.tar", tarfile.TarInfo("data/a.npz")
        member.type, member.linkname = kind, str(tmp_path / "secret")
        with tarfile.open(path, "w") as archive:
            archive.addfile(member)
    with pytest.raises(PiwslError, match=r"data/a\.npz is a link or a folder, not a file"):
        taken(path)
    assert not (tmp_path / "here" / "a.npz").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.bz2"])
def test_an_archive_that_is_cut_is_refused_in_one_line(tmp_path, kind):
    path = packed(tmp_path, kind, {"data/a.npz": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(PiwslError, match="is it whole"):
        taken(path)
    assert not (tmp_path / "here" / "a.npz").exists()
