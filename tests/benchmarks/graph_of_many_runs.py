"""How long Snakemake takes to plan an experiment of 1,000 training runs (a dry run, wall seconds), and its memory."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RUNS = 1000


def main() -> None:
    """Plan the default experiment with seeds enough for 1,000 runs, three times."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["seeds"] = list(range(RUNS // (len(config["losses"]) * len(config["sizes"]))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "Snakefile", folder)
        for part in ("workflow", "envs"):
            shutil.copytree(ROOT / part, folder / part)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        for _ in range(3):
            started = time.perf_counter()
            command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "--quiet", "all"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"{RUNS} training runs planned in {time.perf_counter() - started:.1f} s, {memory:.0f} MB")


if __name__ == "__main__":
    main()
