"""The hash of the code behind a script: all that runs is in it, and nothing that cannot change a result."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import ROOT, morse_frames
from run_files import outputs_in

import piwsl
from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, ReplicaSimulation, Run
from piwsl.data.dataset import TEST, TRAINING, write_dataset
from piwsl.evaluation.evaluate import evaluate
from piwsl.simulation.replicas import simulate
from piwsl.training.run import train_run
from piwsl.workflow import code
from piwsl.workflow.code import Code, Symbol, digests
from piwsl.workflow.jobs import ENERGIES, NO_RESULTS

PACKAGE = Path(piwsl.__file__).parent
SCRIPTS = ROOT / "workflow" / "scripts"

FILES = {
    "house/__init__.py": "",
    "house/rooms/__init__.py": "from house.rooms.kitchen import cook\nfrom house.rooms.cellar import fetch\n",
    "house/rooms/kitchen.py": """
        import numpy as np
        from house.rooms import cellar

        HEAT = 3

        def cook(food: str) -> str:
            \"\"\"Cook.\"\"\"
            if not food:
                raise ValueError("nothing to cook")
            print("cooking")
            return np.repeat(food, HEAT) + cellar.fetch()

        def wash():
            return 0
    """,
    "house/rooms/cellar.py": "def fetch():\n    return 'wine'\n\ndef lock():\n    return 1\n",
    "house/spices/__init__.py": "",
    "house/spices/salt.py": "GRAINS = 3\n",
    "house/plugins.py": "import importlib\n\ndef load(name):\n    return importlib.import_module(name)\n",
}


@pytest.fixture
def house(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    (tmp_path / "script.py").write_text("def run():\n    from house.rooms import cook\n    cook('rice')\nrun()\n")
    return tmp_path


def digest(folder: Path) -> str:
    return Code(folder / "house").digest(folder / "script.py")


def kept_digests(folder: Path, kept: Path) -> dict[str, str]:
    return digests(folder / "house", [folder / "script.py"], [], kept)


def test_digests_are_kept_until_a_source_changes(house, tmp_path, monkeypatch):
    kept = tmp_path / "kept" / "code.json"
    first = kept_digests(house, kept)
    assert first == {"script": digest(house)}
    with monkeypatch.context() as patch:
        patch.setattr(code, "Code", None)  # nothing is followed
        assert kept_digests(house, kept) == first
        moved = tmp_path / "elsewhere"
        shutil.copytree(house / "house", moved / "house")
        shutil.copy(house / "script.py", moved)
        assert kept_digests(moved, kept) == first
    for name, text in (("house/rooms/kitchen.py", "HEAT = 4"), ("script.py", "run(); run()")):
        with (house / name).open("a") as file:
            file.write(f"\n{text}\n")
        assert kept_digests(house, kept) == {"script": digest(house)} != first


@pytest.mark.parametrize("damage", ["", "[]", '{"sources": 3}', "{"])
def test_what_was_kept_may_be_damaged(house, tmp_path, damage):
    (tmp_path / "code.json").write_text(damage)
    assert kept_digests(house, tmp_path / "code.json") == {"script": digest(house)}


def test_digests_need_no_place_to_be_kept(house, tmp_path):
    assert kept_digests(house, tmp_path / "script.py" / "code.json") == {"script": digest(house)}


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("house/rooms/kitchen.py", "HEAT = 3", "HEAT = 4", True),
        ("house/rooms/kitchen.py", "import numpy as np", "import cupy as np", True),
        ("house/rooms/kitchen.py", "if not food", "if food", True),
        ("house/rooms/kitchen.py", "HEAT = 3", "HEAT = 3\nwash()", True),
        ("house/rooms/cellar.py", "'wine'", "'water'", True),
        ("script.py", "'rice'", "'peas'", True),
        ("house/rooms/kitchen.py", "HEAT = 3", "HEAT = 3  # hot", False),
        ("house/rooms/kitchen.py", "Cook.", "Cook it.", False),
        ("house/rooms/kitchen.py", "food: str", "food: object", False),
        ("house/rooms/kitchen.py", "nothing to cook", "give food", False),
        ("house/rooms/kitchen.py", '"cooking"', '"still cooking"', False),
        ("house/rooms/kitchen.py", "return 0", "return 1", False),
        ("house/rooms/cellar.py", "return 1", "return 2", False),
        ("house/plugins.py", "name)", "name, None)", False),
    ],
)
def test_what_may_change_a_result_counts(house, file, old, new, counts):
    before = digest(house)
    path = house / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert (digest(house) != before) == counts


def test_a_script_that_checks_its_files_makes_what_it_made_without(house):
    script, plain = house / "script.py", "with opened():\n    print(kept())\n"
    script.write_text(f"from house.rooms import cook as opened, fetch as kept\n{plain}")
    before = digest(house)
    checked = plain.replace("opened()", "opened(), as_planned(files.frames, params.contents)")
    script.write_text(f"from house.rooms import cook as opened, fetch as kept\nfrom house import as_planned\n{checked}")
    assert digest(house) == before


def test_the_hash_is_the_same_wherever_the_package_lies(house, tmp_path_factory):
    before = digest(house)
    moved = tmp_path_factory.mktemp("elsewhere") / "deep"
    house.rename(moved)
    assert digest(moved) == before


def test_a_module_that_looks_for_modules_reaches_its_whole_package(house):
    (house / "script.py").write_text("from house.plugins import load\nload('house.rooms.cellar')\n")
    assert Symbol("house.rooms.cellar", "lock") in Code(house / "house").reached(house / "script.py")


def test_a_package_named_in_a_string_is_reached_with_all_that_is_in_it(house):
    (house / "script.py").write_text("shelf = 'house.spices'\n")
    assert Code(house / "house").reached(house / "script.py") == {
        Symbol("house.spices", ""),
        Symbol("house.spices.salt", ""),
        Symbol("house.spices.salt", "GRAINS"),
    }


def test_a_package_that_does_not_count_is_not_reached_by_its_name(house):
    (house / "script.py").write_text("shelf = 'house.spices'\n")
    assert Code(house / "house", ["house.spices"]).reached(house / "script.py") == set()


def functions_run(job) -> set[Symbol]:
    """Return the functions and classes of the package whose code runs during a job, by their names in their modules."""
    found = set()

    def watch(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and code.co_name != "<module>":
            parts = Path(code.co_filename).relative_to(PACKAGE.parent).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.add(Symbol(module, code.co_qualname.split(".")[0]))

    sys.setprofile(watch)
    try:
        job()
    finally:
        sys.setprofile(None)
    return {symbol for symbol in found if not symbol.name.startswith("<") and symbol.module not in NO_RESULTS}


def test_all_that_training_testing_and_simulation_run_is_in_the_hash(tmp_path):
    frames = morse_frames("H2O", 12, forces=True)
    write_dataset(tmp_path / "data.h5", {TRAINING: frames[:8], TEST: frames[8:]})
    run = Run(dataset="d", model="m", loss="l", size=8, seed=0)
    model = PaiNN.model_validate({"architecture": "painn", "features": 8, "layers": 1, "training": {"steps": 2}})
    loss = Loss.model_validate({"pitc": {"weight": 0.1}, "pisc": {"weight": 0.1}})
    saved = tmp_path / "model.safetensors"
    jobs = {
        "train": lambda: train_run(tmp_path / "data.h5", run, model, loss, saved, tmp_path / "history.csv"),
        "evaluate": lambda: evaluate(
            tmp_path / "data.h5", run, saved, tmp_path / "e.json", tmp_path / "p.parquet", tmp_path / "w.xyz"
        ),
        "simulate": lambda: simulate(
            tmp_path / "data.h5",
            run,
            "nvt",
            saved,
            ReplicaSimulation(time=0.002, velocities_every=1),
            outputs_in(tmp_path),
        ),
    }
    for script, job in jobs.items():
        ran = functions_run(job)
        assert len(ran) > 10
        assert ran <= Code(PACKAGE).reached(SCRIPTS / f"{script}.py"), script


@pytest.mark.parametrize("script", ["assemble_dataset", "import_dataset", "take_geometries"])
def test_no_dataset_depends_on_the_code_that_labels(script):
    modules = {symbol.module for symbol in Code(PACKAGE, (*NO_RESULTS, *ENERGIES)).reached(SCRIPTS / f"{script}.py")}
    assert "piwsl.data.assemble" in modules
    assert modules.isdisjoint({"piwsl.reference.labelling", "piwsl.config.levels", "piwsl.models"})


@pytest.mark.parametrize("script", ["label", "label_free_atoms"])
def test_potentials_as_levels_make_no_job_of_labels_depend_on_the_code_of_models(script):
    reached = Code(PACKAGE, (*NO_RESULTS, *ENERGIES)).reached(SCRIPTS / f"{script}.py")
    assert "piwsl.config.levels" in {symbol.module for symbol in reached}
    rooms = {".".join(symbol.module.split(".")[:2]) for symbol in reached}
    assert rooms.isdisjoint({"piwsl.models", "piwsl.architectures", "piwsl.training"})
