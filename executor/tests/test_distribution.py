"""The executor is a distribution of its own: it knows nothing of piwsl, and works as it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_it_knows_nothing_of_piwsl():
    sources = (PROJECT / "src" / "snakemake_executor_plugin_submitit").glob("*.py")
    assert not [path.name for path in sources if re.search(r"^\s*(import|from) piwsl", path.read_text(), re.M)]


def test_its_wheel_is_a_plugin(tmp_path):
    shutil.copytree(PROJECT, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(tmp_path), "./source"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("snakemake_executor_plugin_submitit-*.whl")
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    asking = "import snakemake_executor_plugin_submitit as plugin; print(plugin.__file__, plugin.Executor.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", asking], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        str(tmp_path / "installed" / "snakemake_executor_plugin_submitit" / "__init__.py"), "Executor",
    ], done.stderr  # fmt: skip
    assert (tmp_path / "installed" / "snakemake_executor_plugin_submitit" / "py.typed").exists()
    assert list((tmp_path / "installed").glob("*.dist-info/licenses/LICENSE"))
