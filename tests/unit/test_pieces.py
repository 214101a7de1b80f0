"""What the pieces of a job take that is stopped and goes on is added up, and left beside what Snakemake measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from piwsl.files import read_json, write_text
from piwsl.pieces import Pieces, taken_by
from piwsl.records import Benchmark, earlier_pieces, read_benchmark

PIECE = """
import os, subprocess, sys, time
from pathlib import Path
from piwsl.pieces import Pieces

def work(seconds):
    while time.process_time() < seconds:
        pass

pieces = Pieces(Path("pieces.json"), sys.argv[1])
work(0.3)
pieces.saved()
os.kill(os.getpid(), 9)
"""


def killed_piece(folder: Path, job: str) -> None:
    """Let a process note what it took, and be killed."""
    assert subprocess.run([sys.executable, "-c", PIECE, job], cwd=folder).returncode == -9


def test_pieces_that_were_killed_are_added_up_and_left_by_the_last(tmp_path):
    note, left = tmp_path / "pieces.json", tmp_path / "benchmarks" / "n8-seed0.earlier.json"
    killed_piece(tmp_path, "a")
    once = read_json(note)
    killed_piece(tmp_path, "a")
    twice = read_json(note)
    for key in ("wall_s", "cpu_s"):
        assert once[key] >= 0.25
        assert twice[key] >= once[key] + 0.25
    last = Pieces(note, "a")
    last.saved()
    last.leave(left)
    assert read_json(left) == {key: twice[key] for key in ("wall_s", "cpu_s")}


def test_a_job_in_one_piece_leaves_nothing_and_takes_away_what_one_before_left(tmp_path):
    left = tmp_path / "n8-seed0.earlier.json"
    write_text(left, "{}")
    killed_piece(tmp_path, "another config")
    Pieces(tmp_path / "pieces.json", "this one").leave(left)
    assert not left.exists()
    write_text(tmp_path / "pieces.json", '{"job": "this one", "wall_s": ')
    Pieces(tmp_path / "pieces.json", "this one").leave(left)
    assert not left.exists()


def test_children_count_those_that_ended_and_those_at_work(tmp_path):
    busy = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    before = taken_by(psutil.Process()).cpu_s
    subprocess.run([sys.executable, "-c", busy], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert taken_by(psutil.Process()).cpu_s >= before + 0.55
        child.communicate()


def test_a_process_that_trains_with_others_notes_what_all_of_them_took(tmp_path):
    pieces = Pieces(tmp_path / "pieces.json", "a")
    child = os.fork()
    if child == 0:
        pieces.saved()
        os._exit(0)
    os.waitpid(child, 0)
    own = taken_by(psutil.Process())
    assert read_json(tmp_path / "pieces.json")["cpu_s"] == pytest.approx(own.cpu_s, abs=1.0)
    assert read_json(tmp_path / "pieces.json")["wall_s"] == pytest.approx(own.wall_s, abs=60.0)


def test_earlier_pieces_are_part_of_what_a_job_took(tmp_path):
    benchmark = tmp_path / "n8-seed0.tsv"
    benchmark.write_text("s\tcpu_time\n45.0\t22.5\n")
    assert read_benchmark(benchmark) == Benchmark(wall_s=45.0, cpu_s=22.5)
    write_text(earlier_pieces(benchmark), '{"wall_s": 100.0, "cpu_s": 90.0}')
    assert read_benchmark(benchmark) == Benchmark(wall_s=145.0, cpu_s=112.5)
    write_text(earlier_pieces(benchmark), '{"wall_s": "long"}')
    assert read_benchmark(benchmark) is None
