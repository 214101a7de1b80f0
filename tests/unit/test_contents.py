"""What is in a user's files is what a job was planned with, however the files are named and wherever the job runs."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from piwsl.catalogue import DOWNLOADS, entries
from piwsl.errors import PiwslError
from piwsl.files import file_hash
from piwsl.workflow.contents import PLANNED, Contents, as_planned, told


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    """Text, a link to it, a database and a large file, as a config may name them."""
    monkeypatch.chdir(tmp_path)
    Path("mine.xyz").write_text("A")
    Path("link.xyz").symlink_to("mine.xyz")
    with sqlite3.connect("mine.db") as database:
        database.execute("create table systems (id)")
    Path("large.npz").write_bytes(os.urandom(5_000_000))
    return ["mine.xyz", "link.xyz", "mine.db", "large.npz"]


def planned(paths: list[str]) -> list[str]:
    return Contents({})(*map(Path, paths))


def test_files_that_are_what_they_were_are_read(files):
    with as_planned(files, planned(files)):
        pass
    with as_planned("mine.xyz", planned(["mine.xyz"])):
        pass
    with as_planned([], planned([])):  # a molecule by its name
        pass


def test_a_file_that_was_touched_or_copied_over_with_the_same_is_what_it_was(files):
    said = planned(files)
    os.utime("mine.db")
    Path("copy").write_text("A")
    Path("copy").replace("mine.xyz")
    with as_planned(files, said):
        pass


def test_a_file_that_was_edited_is_named_behind_a_link_too(files):
    said = planned(files[1:])
    Path("mine.xyz").write_text("B")
    refused = "link.xyz: edited after this job was planned; start snakemake again"
    with pytest.raises(PiwslError, match=refused), as_planned(files[1:], said):
        pytest.fail("read all the same")
    Path("mine.xyz").write_text("A")
    with as_planned(files[1:], said):
        pass


def test_published_files_are_told_apart_by_where_they_come_from(files):
    source = next(source for entry in entries().values() for source in entry.sources())
    paths = ["mine.xyz", str(source.path), "mine.db"]
    said = planned(paths)
    source.path.parent.mkdir(parents=True)
    source.path.write_text("downloaded since")
    assert source.path.is_relative_to(DOWNLOADS)
    with as_planned(paths, said):
        pass


def test_a_job_on_another_machine_is_told_what_it_was_planned_with(files, monkeypatch):
    monkeypatch.setenv(PLANNED, "{}")
    contents = Contents({})
    said = contents(Path("mine.xyz"))
    contents.tell()
    Path("mine.xyz").write_text("B")
    there = Contents(told())
    assert there(Path("mine.xyz")) == said
    assert there(Path("mine.db")) == [file_hash(Path("mine.db"))]
    with pytest.raises(PiwslError, match=r"mine.xyz: edited"), as_planned("mine.xyz", there(Path("mine.xyz"))):
        pass
