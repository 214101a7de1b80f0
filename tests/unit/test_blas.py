"""A linear algebra library of the machine's takes the place of the one in PySCF's wheel, and nothing else changes."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pyscf
import pytest

ENERGY = """
from ase.build import molecule
from piwsl.config import Level
from piwsl.reference.calculations import level_energy, run_level
level = Level.model_validate({"method": "mp2", "basis": "cc-pvdz"})
print(level_energy(level, run_level(molecule("H2O"), level, 0, 1, 1000)).energy)
"""


def energy(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PIWSL_BLAS"} | variables
    return subprocess.run([sys.executable, "-c", ENERGY], env=environment, capture_output=True, text=True)


def test_what_is_no_library_is_refused_with_its_name(tmp_path):
    (tmp_path / "libnothing.so").write_text("no library")
    refused = energy(PIWSL_BLAS=str(tmp_path / "libnothing.so"))
    assert refused.returncode != 0
    assert "libnothing.so: cannot be used as BLAS" in refused.stderr


def test_a_library_without_a_matrix_product_is_refused():
    refused = energy(PIWSL_BLAS=str(ctypes.util.find_library("m")))
    assert "cannot be used as BLAS" in refused.stderr


def test_energies_are_the_same_with_a_library_that_is_named():
    # The one library of this kind that is surely there is PySCF's own.
    (library,) = (Path(pyscf.__file__).parent / "lib").glob("libopenblas*.so")
    own, other = energy(), energy(PIWSL_BLAS=str(library), LD_LIBRARY_PATH=str(library.parent))
    assert other.returncode == 0, other.stderr
    assert float(other.stdout) == pytest.approx(float(own.stdout), abs=1e-9)
