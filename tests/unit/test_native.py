"""Native code has the energies and forces of the potential, for structures of any size; it is made once, and where
it cannot be made, or is not to be trusted, the potential is evaluated as it stands and a line says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from helpers import morse_frames
from torch import Tensor

from piwsl.architectures.painn import PaiNN
from piwsl.architectures.schnet import SchNet
from piwsl.config import Architecture
from piwsl.data.batch import Batch, collate, graph
from piwsl.interfaces import PotentialCalculator
from piwsl.models import Committee, Potential, build_potential, compiled, fit_pair_potential, native
from piwsl.models.compiled import CompiledPredictor, compiled_for, compiled_predictor
from piwsl.models.tracing import traced
from piwsl.structures.structure import Structure, from_atoms

SIZES = {"cutoff": 4.0, "features": 8, "layers": 1, "radial": 4}


def structures() -> list[Structure]:
    frames = morse_frames("H2O", 4, forces=True) + morse_frames("NH3", 4, forces=True)
    return [from_atoms(atoms) for atoms in frames]


def potential(dtype: str = "float64", seed: int = 0, config: Architecture | None = None) -> Potential:
    torch.manual_seed(seed)
    config = config or PaiNN(architecture="painn", dtype=dtype, **SIZES)
    return build_potential(config, structures())


def batches(dtype: torch.dtype) -> dict[str, Batch]:
    """Return what one library is to serve, by name."""
    water, ammonia = morse_frames("H2O", 1, seed=3)[0], morse_frames("NH3", 1, seed=3)[0]
    ice = Atoms("H2ON", [[0, 0, 0], [0.9, 0.4, 0], [0.3, 1.0, 0.2], [1.4, 1.5, 1.6]], cell=[3.0, 3.2, 3.4], pbc=True)
    row = Atoms("N", cell=[2.0, 9.0, 9.0], pbc=[True, False, False])
    far = Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])
    single = {
        name: graph(from_atoms(atoms), 4.0, dtype)
        for name, atoms in {
            "water": water, "ammonia": ammonia, "an atom": Atoms("O"), "atoms out of reach": far,
            "a periodic atom": row, "a crystal": ice, "a pair": Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]),
        }.items()
    }  # fmt: skip
    return single | {
        "molecules, an atom, a crystal": collate([single[key] for key in ("water", "an atom", "a crystal", "ammonia")]),
        "40 molecules": collate([single["water"], single["ammonia"]] * 20),
    }


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.FOLDER, str(tmp_path_factory.mktemp("cache")))
        yield native.private_folder()


def libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt2"))


def assert_same(found: Batch, model, compiled_model, tolerance: float):
    expected, prediction = model.predict(found), compiled_model.predict(found)
    torch.testing.assert_close(prediction.energy, expected.energy, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(prediction.energies, expected.energies, rtol=tolerance, atol=tolerance)
    scale = max(float(expected.forces.abs().max()), 1.0)
    torch.testing.assert_close(prediction.forces, expected.forces, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_one_library_has_the_energies_and_forces_of_structures_of_any_size(cache, capfd, dtype, tolerance):
    before = libraries(cache)
    model = potential(dtype)
    native_model = compiled_predictor(model)
    assert isinstance(native_model, CompiledPredictor)
    for batch in batches(model.dtype).values():
        assert_same(batch, model, native_model, tolerance)
    assert len(libraries(cache)) == len(before) + 1
    printed = capfd.readouterr().out
    assert "the potential is compiled (" in printed
    assert "not" not in printed


def test_other_weights_and_a_committee_take_the_library_that_is_there(cache, monkeypatch):
    compiled_predictor(potential())
    monkeypatch.setattr(native, "_make", None)  # from here on nothing can be made
    members = [potential(seed=seed) for seed in (5, 6, 7)]
    committee = Committee(members)
    native_members, native_committee = compiled_predictor(members[0]), compiled_predictor(committee)
    assert isinstance(native_members, CompiledPredictor)
    assert isinstance(native_committee, CompiledPredictor)
    batch = batches(torch.float64)["40 molecules"]
    assert_same(batch, members[0], native_members, 1e-10)
    assert_same(batch, committee, native_committee, 1e-10)
    found, expected = (each.predict(batch, {"energy", "forces", "spread"}) for each in (native_committee, committee))
    torch.testing.assert_close(found.energy_std, expected.energy_std)
    torch.testing.assert_close(found.forces_std, expected.forces_std)


@pytest.mark.parametrize(
    "config",
    [
        SchNet(architecture="schnet", dtype="float64", **SIZES),
        PaiNN(architecture="painn", dtype="float64", forces="direct", **SIZES),
        PaiNN(architecture="painn", dtype="float64", **(SIZES | {"layers": 3})),
    ],
    ids=["schnet", "direct", "deep"],
)
def test_what_is_compiled_is_the_potential_itself(config):
    model = potential(config=config)
    model.pair = fit_pair_potential(structures(), 4.0).potential
    graph_module, inputs = traced(model)
    for name in ("water", "a crystal", "40 molecules"):
        batch = batches(torch.float64)[name]
        own = (batch.positions, batch.atomic_numbers, batch.edge_index, batch.edge_shift)
        energies, forces = graph_module(*own, *inputs[4:])
        expected = model.predict(batch)
        torch.testing.assert_close(energies, expected.energies, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(forces, expected.forces, rtol=1e-10, atol=1e-10)


def test_what_is_no_plain_force_is_evaluated_as_it_stands():
    model = potential()

    def never(*arguments: Tensor) -> list[Tensor]:
        raise AssertionError("asked of the library")

    wrapped = CompiledPredictor(model, never)
    batch = batches(torch.float64)["a crystal"]
    torch.testing.assert_close(wrapped.predict(batch, {"stress"}).stress, model.predict(batch, {"stress"}).stress)
    assert wrapped.predict(batch, {"energy"}).forces is None
    assert wrapped.predict(batch, create_graph=True).forces.requires_grad
    assert wrapped.in_dtype(torch.float32).predict(batch.in_dtype(torch.float32)).forces.dtype == torch.float32


def wrong(model: Potential, factor: float):
    """Return code of which forces are off."""

    def evaluate(positions: Tensor, numbers: Tensor, edges: Tensor, shifts: Tensor, *weights: Tensor) -> list[Tensor]:
        prediction = model.predict(batches(torch.float64)["water"].at(positions))
        return [prediction.energies.detach(), factor * prediction.forces]

    return evaluate


@pytest.mark.parametrize("factor", [1.001, float("nan")])
def test_code_that_differs_from_the_potential_is_not_used(capfd, factor):
    model = potential()
    wrapped = CompiledPredictor(model, wrong(model, factor))
    batch = batches(torch.float64)["water"]
    for _ in range(2):
        torch.testing.assert_close(wrapped.predict(batch).forces, model.predict(batch).forces, rtol=0, atol=0)
    printed = capfd.readouterr().out
    assert printed.count("compiled code is not used (Deviation: forces differ from eager ones by") == 1


def test_without_a_compiler_the_potential_comes_back(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(native.FOLDER, str(tmp_path))
    model = potential()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert compiled_predictor(model) is model
    printed = capfd.readouterr().out
    assert printed.startswith("the potential is not compiled (InvalidCxxCompiler: No working C++ compiler found")
    assert printed.endswith("; going on without\n")
    assert printed.count("\n") == 1
    assert libraries(native.private_folder()) == []


def test_what_cannot_be_traced_for_any_size_comes_back(capfd):
    model = potential()
    network = model.learned.network
    evaluate = network.forward

    def forward(batch: Batch):
        # Another function where there are many edges.
        outputs, forces = evaluate(batch)
        return (2 * outputs if batch.edge_shift.shape[0] > 100 else outputs), forces

    network.forward = forward
    assert compiled_predictor(model) is model
    assert "(Deviation: its code would hold for some numbers of atoms or edges alone)" in capfd.readouterr().out


@pytest.fixture
def counted(tmp_path, monkeypatch) -> list[str]:
    """Libraries that are text, in a folder of their own; the names of those that were made."""
    made: list[str] = []

    def make(graph_module, inputs, path: Path) -> None:
        made.append(path.name)
        path.write_text("code")

    monkeypatch.setenv(native.FOLDER, str(tmp_path))
    monkeypatch.setattr(native, "_make", make)
    monkeypatch.setattr(native, "_loaded", lambda path: path.read_text())
    return made


def test_a_library_that_is_damaged_or_half_written_is_made_again(counted):
    graph_module, inputs = traced(potential())
    assert native.stored(graph_module, inputs) is None
    assert native.library(graph_module, inputs) == native.stored(graph_module, inputs) == "code"
    (path,) = libraries(native.private_folder())
    for damage in (lambda: path.write_text("co"), path.unlink, path.with_suffix(".sha256").unlink):
        damage()
        assert native.stored(graph_module, inputs) is None
        assert native.library(graph_module, inputs) == "code"
    assert len(counted) == 4


def test_libraries_that_were_used_longest_ago_make_room(counted, monkeypatch):
    monkeypatch.setattr(native, "KEPT", 2)
    graphs = [
        traced(potential(config=PaiNN(architecture="painn", **SIZES | {"cutoff": cutoff}))) for cutoff in (3, 4, 5)
    ]
    for age, own in zip((300, 200), graphs[:2], strict=True):
        native.library(*own)
        (newest,) = [path for path in libraries(native.private_folder()) if path.stat().st_mtime > time.time() - 100]
        os.utime(newest, (time.time() - age,) * 2)
    assert native.stored(*graphs[0]) == "code"
    native.library(*graphs[2])
    assert [native.stored(*own) for own in graphs] == ["code", None, "code"]
    assert len(list(native.private_folder().iterdir())) == 6


def test_a_library_is_of_one_architecture_and_one_number_of_threads(counted, monkeypatch):
    first = traced(potential())
    native.library(*first)
    native.library(*traced(potential(seed=4)))
    assert len(counted) == 1
    native.library(*traced(potential("float32")))
    wider = PaiNN(architecture="painn", dtype="float64", **(SIZES | {"cutoff": 4.5}))
    native.library(*traced(potential(config=wider)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    native.library(*first)
    assert len(counted) == 4


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_code_from_a_folder_in_which_others_write_is_not_run(counted, capfd, mode):
    model = potential()
    folder = native.private_folder()
    folder.chmod(mode)
    assert compiled_predictor(model) is model
    assert f"(PiwslError: {folder}: others may write in it" in capfd.readouterr().out
    assert counted == []


def test_a_link_to_a_folder_is_refused(counted, tmp_path, capfd):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "compiled").symlink_to(tmp_path / "elsewhere")
    compiled_predictor(potential())
    assert "others may write in it" in capfd.readouterr().out
    assert counted == []


def test_a_folder_is_made_for_its_user_alone(counted):
    assert native.private_folder().stat().st_mode & 0o077 == 0


def test_compiling_is_for_runs_long_enough(counted, monkeypatch):
    monkeypatch.setattr(compiled, "_seconds", lambda evaluate: 0.004)
    model, batch = potential(), batches(torch.float64)["water"]
    assert compiled_for(model, batch, steps=100) is model
    assert compiled_for(model, batch, steps=5000) is model  # a library would be worth loading, and is not there
    assert counted == []
    assert isinstance(compiled_for(model, batch, steps=100_000), CompiledPredictor)
    assert isinstance(compiled_for(model, batch, steps=5000), CompiledPredictor)
    assert compiled_for(model, batch, steps=100) is model
    assert len(counted) == 1


def test_the_calculator_takes_native_code():
    atoms = morse_frames("NH3", 1)[0]
    model = potential()
    expected = PotentialCalculator(model)
    calculator = PotentialCalculator(model, compiled=True)
    assert isinstance(calculator.potential, CompiledPredictor)
    assert calculator.get_potential_energy(atoms) == pytest.approx(expected.get_potential_energy(atoms), abs=1e-9)
    np.testing.assert_allclose(calculator.get_forces(atoms), expected.get_forces(atoms), atol=1e-9)
    crystal = bulk("N", "sc", a=2.2)
    np.testing.assert_allclose(calculator.get_stress(crystal), expected.get_stress(crystal))
