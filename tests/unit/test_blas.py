"""A linear algebra library of the machine's takes the place of the one in PySCF's wheel, and nothing else changes."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pyscf
import pytest
from helpers import morse_frames

from piwsl.architectures.painn import PaiNN
from piwsl.models import build_potential, save_model
from piwsl.reference.blas import NEEDED, _of_wheel, _processor_has
from piwsl.structures.frames import write_frames
from piwsl.structures.structure import from_atoms

ENERGY = """
from ase.build import molecule
from piwsl.reference.calculations import level_energy, run_level
from piwsl.reference.engines.pyscf import PySCF
level = PySCF.model_validate({"method": "mp2", "basis": "cc-pvdz"})
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


MODELS = """
import sys
from pathlib import Path
import piwsl.cli, piwsl.config, piwsl.data.assemble, piwsl.structures.frames, piwsl.training.run
from piwsl.models.storage import read_header
from piwsl.evaluation.files import predict_file
piwsl.load_model("model.safetensors")
read_header(Path("model.safetensors"))
predict_file(Path("model.safetensors"), Path("frames.xyz"), Path("predicted.xyz"), "cpu")
loaded = {name.partition(".")[0] for name in sys.modules} & {"pyscf", "tblite", "snakemake"}
assert not loaded, loaded
"""


def test_models_are_loaded_and_predict_without_pyscf_whatever_library_is_named_for_it(tmp_path):
    frames = morse_frames("H2O", 2, forces=True)
    write_frames(tmp_path / "frames.xyz", frames)
    config = PaiNN(architecture="painn", features=8, layers=1, cutoff=4.0)
    model = build_potential(config, [from_atoms(atoms) for atoms in frames])
    save_model(tmp_path / "model.safetensors", model, {"data": "x"})
    environment = os.environ | {"PIWSL_BLAS": "/nonexistent"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)

    used = run("-c", MODELS)
    assert used.returncode == 0, used.stderr
    assert (tmp_path / "predicted.xyz").exists()
    refused = run("-m", "piwsl", "label", "frames.xyz", "labelled.xyz", "--level", "mp2-cbs")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: PIWSL_BLAS=/nonexistent: cannot be used as BLAS")
    assert refused.stderr.count("\n") == 1


KERNELS = """
import os
import piwsl.reference
from piwsl.reference.blas import blas_name
import pyscf.lib
assert "OPENBLAS_CORETYPE" not in os.environ or os.environ["OPENBLAS_CORETYPE"] == "Nehalem"
print(blas_name())
"""


def kernels(**variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PIWSL_BLAS", "OPENBLAS_CORETYPE")}
    command = [sys.executable, "-c", KERNELS]
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not _of_wheel() or not _processor_has(NEEDED), reason="PySCF's wheel, on a processor with AVX2")
def test_the_library_of_the_wheel_is_told_what_the_processor_can_do_unless_the_user_says_more():
    assert kernels() == "of PySCF's wheel, Haswell\n"
    assert kernels(OPENBLAS_CORETYPE="Nehalem") == "of PySCF's wheel, Nehalem\n"
    as_it_comes = energy(PIWSL_BLAS="pyscf")
    assert float(as_it_comes.stdout) == pytest.approx(float(energy().stdout), abs=1e-9)
