"""One process at a time works in a folder; one that outlived its Snakemake writes nothing over what is wanted now."""

from __future__ import annotations

import errno
import fcntl
import os
import threading

import pytest

from piwsl import holding
from piwsl.errors import PiwslError
from piwsl.holding import alone_in


def test_a_process_waits_for_the_end_of_another_that_writes_its_last(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(holding, "POLL_SECONDS", 0.01)
    ended = threading.Event()

    def predecessor() -> None:
        with alone_in(tmp_path, "job"):
            begun.set()
            ended.wait(0.2)
        ended.set()

    begun = threading.Event()
    threading.Thread(target=predecessor).start()
    begun.wait()
    with alone_in(tmp_path, "job") as hold:
        assert ended.is_set()
        hold.check()
    assert "waiting for its end" in capsys.readouterr().out


def test_a_process_that_does_not_end_is_said_and_goes_on_where_both_compute_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "PATIENCE_SECONDS", 0.0)
    with alone_in(tmp_path, "job") as hold:
        with pytest.raises(PiwslError, match="another process is at work on this run; wait for its end"):
            alone_in(tmp_path, "job").__enter__()
        hold.check()


def test_a_process_learns_that_something_else_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "PATIENCE_SECONDS", 0.0)
    with alone_in(tmp_path, "300 K") as hold:
        with pytest.raises(PiwslError, match="another process is at work"):
            alone_in(tmp_path, "77 K").__enter__()
        with pytest.raises(PiwslError, match="computes it with other settings; this one writes nothing"):
            hold.check()
    with alone_in(tmp_path, "77 K") as hold:
        hold.check()


def test_a_disk_without_locks_keeps_nobody_out(tmp_path, monkeypatch):
    def unknown(*_args) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with alone_in(tmp_path, "300 K") as first, alone_in(tmp_path, "77 K") as second:
        second.check()
        with pytest.raises(PiwslError, match="other settings"):
            first.check()
