"""Experiments side by side: errors where test frames are the same to the last bit, and a word where they are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import morse_frames

from piwsl.data.dataset import TEST, write_dataset
from piwsl.errors import PiwslError
from piwsl.report.against import side_by_side
from piwsl.report.sections.errors import RARE
from piwsl.workflow.compare import compare_folders

CONFIG: dict[str, Any] = {
    "datasets": {"water": {"file": "water.xyz", "test_frames": 3, "level": "CCSD(T)"}},
    "models": {"painn": {"architecture": "painn"}},
    "losses": {"supervised": {"energy": 1.0}},
    "sizes": [10, 20],
    "seeds": [0, 1, 2],
    "simulations": {},
}


def runs(energy: float, force: float = np.nan, size: int = 10, seeds: int = 3, dataset: str = "water") -> pd.DataFrame:
    """Return runs whose errors go from seed to seed by a factor of two."""
    return pd.DataFrame(
        {"dataset": dataset, "model": "painn", "loss": "supervised", "size": size, "seed": seed, "failed": np.nan,
         "energy_mae_meV": energy * 2**seed, "force_mae_meV_per_A": force * 2**seed, "energy_constant_meV": 0.0,
         "stable_ps": np.nan, "pair_potential": False, "observation": f"seed {seed}"}
        for seed in range(seeds)
    )  # fmt: skip


class Place:
    """A folder in which experiments were run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.page = path / "page.html"

    def experiment(self, name: str, table: pd.DataFrame, frames=None, dataset: str = "water", **keys: Any) -> Path:
        """Leave what an experiment of one dataset does, tested on water by default."""
        folder = self.path / "results" / name
        frames = morse_frames("H2O", 3, forces=True) if frames is None else frames
        write_dataset(folder / "datasets" / dataset / "test.h5", {TEST: frames})
        table.to_csv(folder / "results.csv", index=False)
        config = {"experiment": name} | CONFIG | keys
        config["datasets"] = {dataset: CONFIG["datasets"]["water"] | config["datasets"].get(dataset, {})}
        (self.path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        (folder / ".config").write_text(f"{name}.yaml\n")
        return folder

    def compare(self, *folders: Path) -> list[str]:
        """Compare experiments; keep what the page says, without markup."""
        said = compare_folders(folders, self.page)
        body = self.page.read_text().partition("<main>")[2]
        body = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
        self.text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))
        return said


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def test_errors_on_the_same_test_frames_are_compared_whatever_their_dataset_is_called(place):
    first = place.experiment("a", runs(10.0, 100.0))
    second = place.experiment("b", runs(8.0, 100.0, dataset="mine"), dataset="mine")
    assert place.compare(first, second) == []
    assert "a water test set 1 3 CCSD(T) 3 b mine test set 1 3 CCSD(T) 3" in place.text
    # Seeds by factors of two: the mean of 10, 20, 40 is 23.3; every seed of b is 0.8 of that of a.
    assert "painn 10 supervised 3 and 3 23.3 ± 15 18.7 ± 12 233 ± 150 233 ± 150" in place.text
    assert "energy error 20 % lower (ratio 0.8, 95 % interval 0.8 to 0.8, 3 seeds)" in place.text
    assert "force errors alike: any difference is too small to matter (ratio 1" in place.text
    assert "painn, supervised, b against a" in place.text


def test_seeds_that_are_one_model_of_the_same_frames_count_once_in_both(place):
    tables = [runs(energy).assign(energy_mae_meV=energy, observation="frames 0a") for energy in (10.0, 8.0)]
    assert place.compare(place.experiment("a", tables[0]), place.experiment("b", tables[1])) == []
    assert "painn 10 supervised 1 and 1 10 8" in place.text
    assert "painn, supervised, b against a 10 energy 0.8 – 1 undecided" in place.text


def test_a_table_of_an_earlier_version_has_an_observation_a_seed(place):
    folders = [place.experiment("a", runs(10.0).drop(columns="observation")), place.experiment("b", runs(8.0))]
    assert place.compare(*folders) == []
    assert "energy error 20 % lower (ratio 0.8, 95 % interval 0.8 to 0.8, 3 seeds)" in place.text


def test_a_test_set_of_few_energies_says_how_many(place):
    frames = morse_frames("H2O", 3, forces=True)
    del frames[1].info["REF_energy"]
    folders = [place.experiment(name, runs(10.0, 100.0), frames) for name in "ab"]
    assert place.compare(*folders) == []
    assert "a water test set 1 3, 2 with energies CCSD(T) 3 b water test set 1 3, 2 with" in place.text


def test_labels_of_another_level_at_the_same_geometries_are_no_comparison(place):
    frames = morse_frames("H2O", 3, forces=True)
    for atoms in frames:
        atoms.info["REF_energy"] += 1e-9
    first = place.experiment("a", runs(10.0))
    second = place.experiment("b", runs(8.0), frames, datasets={"water": {"level": "DFT"}})
    (said,) = place.compare(first, second)
    assert said == (
        "a and b have no test set in common: their errors are not compared; test geometries of water are the same, "
        "labels are not (CCSD(T) and DFT)"
    )
    assert said in place.text
    assert "Errors on test set 2, of b alone" in place.text
    assert "Ratios of mean absolute errors" not in place.text


def test_cheap_labels_in_the_frames_are_no_other_test_set(place):
    frames = morse_frames("H2O", 3, forces=True)
    for atoms in frames:
        atoms.arrays["WEAK_forces"] = np.zeros((3, 3))
        atoms.info["temperature"] = 300.0
    assert place.compare(place.experiment("a", runs(10.0)), place.experiment("b", runs(8.0), frames)) == []


def test_a_third_experiment_is_compared_where_it_can_be(place):
    folders = [place.experiment("a", runs(10.0)), place.experiment("b", runs(5.0))]
    folders.append(place.experiment("c", runs(1.0), morse_frames("NH3", 3)))
    assert place.compare(*folders) == [
        "a and c have no test set in common: their errors are not compared",
        "b and c have no test set in common: their errors are not compared",
    ]
    assert "energy error 50 % lower" in place.text


def test_the_page_says_what_differs_in_the_configurations_and_what_it_cost(place):
    first, second = place.experiment("a", runs(10.0)), place.experiment("b", runs(10.0), sizes=[10])
    place.compare(first, second)
    assert "Key a b sizes [10, 20] [10]" in place.text
    for folder, seconds in ((first, 3600.0), (second, 7200.0)):
        benchmark = folder / "benchmarks" / "train" / "water" / "n10.tsv"
        benchmark.parent.mkdir(parents=True)
        benchmark.write_text(f"s\tcpu_time\n{seconds}\tNA\n")
    (second.parent / ".." / "b.yaml").unlink()
    assert place.compare(first, second) == ["The configuration of b is not there any more, and is not compared"]
    assert "train 1 2 in all 1 2" in place.text


def test_a_config_that_is_another_experiments_by_now_is_not_taken_for_it(place):
    first, second = place.experiment("a", runs(10.0)), place.experiment("b", runs(10.0))
    (second / ".config").write_text("a.yaml\n")
    assert place.compare(first, second) == ["The configuration of b is not there any more, and is not compared"]


def test_learning_curves_lie_over_each_other_where_there_are_sizes(place):
    table = pd.concat([runs(10.0), runs(5.0, size=20)])
    place.compare(place.experiment("a", table), place.experiment("b", table))
    html = place.page.read_text()
    assert "supervised (a) 23.3 at 10 and 11.7 at 20 frames; supervised (b) 23.3 at 10" in html


def test_what_only_one_has_stands_beside_a_dash_and_what_is_not_labelled_is_called_so():
    tables = {"a": runs(10.0, seeds=1), "b": pd.concat([runs(4.0, 1.0, 20, 1), runs(2.0, 3.0, 30, 2)])}
    rare = dict.fromkeys(RARE, float("nan"))
    whole = {name: table.assign(**rare) for name, table in tables.items()}
    first, second, third = side_by_side(whole)
    assert [cell["text"] for cell in first["cells"]] == ["10", "–", "not labelled", "–"]
    assert [cell["text"] for cell in second["cells"]] == ["–", "4", "–", "1"]
    assert [cell["text"] for cell in third["cells"]] == ["–", "3 ± 1.4", "–", "4.5 ± 2.1"]
    assert [row["seeds"] for row in (first, third)] == ["1 and –", "– and 2"]


def test_an_unfinished_experiment_is_compared_by_its_partial_report(place):
    first, second = place.experiment("a", runs(10.0)), place.experiment("b", runs(8.0))
    (second / "results.csv").rename(second / "partial-results.csv")
    assert place.compare(first, second) == []


def test_names_are_text_and_the_page_asks_for_nothing(place):
    odd = "a<b>&c"
    place.compare(place.experiment(odd, runs(10.0)), place.experiment("b", runs(8.0)))
    html = place.page.read_text()
    assert "<h1>a&lt;b&gt;&amp;c and b</h1>" in html
    assert "<b>" not in html.partition("<main>")[2]
    assert "default-src 'none'" in html


def test_what_cannot_be_read_is_refused_in_one_line(place):
    first = place.experiment("a", runs(10.0))
    with pytest.raises(PiwslError, match="name two or more folders"):
        compare_folders([first], place.page)
    with pytest.raises(PiwslError, match="each once"):
        compare_folders([first, first / "..", first], place.page)
    with pytest.raises(
        PiwslError, match=r"none: no results.csv; finish the experiment, or say `snakemake partial_report`"
    ):
        compare_folders([first, place.path / "none"], place.page)
    assert not place.page.exists()
