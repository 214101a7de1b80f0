"""A model of another config is not tested under the names of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from piwsl.architectures.painn import PaiNN
from piwsl.config import Loss, Run, Training
from piwsl.errors import PiwslError
from piwsl.evaluation.trained_by import check_trained_by
from piwsl.models import Potential, save_model

RUN = Run(dataset="water", model="painn", loss="supervised", size=8, seed=0)


def painn(**training: Any) -> PaiNN:
    return PaiNN(
        architecture="painn",
        cutoff=4.0,
        features=8,
        layers=1,
        radial=6,
        training=Training(**({"steps": 20} | training)),
    )


@pytest.fixture
def trained(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    potential = Potential(painn(), scale=1.0, references={1: -13.6}, neighbours=2.0)
    save_model(path, potential, {"run": RUN.plain(), "loss": Loss().plain(), "seed": 0})
    return path


def test_a_model_of_this_config_is_taken(trained):
    check_trained_by(trained, RUN, painn(), Loss())
    # Where it runs is nothing to what it becomes.
    elsewhere = painn().model_copy(update={"resources": painn().resources.model_copy(update={"runtime": 7})})
    check_trained_by(trained, RUN, elsewhere, Loss())


@pytest.mark.parametrize(
    ("run", "model", "loss", "said"),
    [
        (RUN, painn(learning_rate=0.05), Loss(), r"models\.painn\.training\.learning_rate: .* says 0\.05"),
        (RUN, painn(steps=21), Loss(), r"models\.painn\.training\.steps: 20, and the config says 21; train it again"),
        (RUN, painn(), Loss.model_validate({"pitc": {"weight": 0.1, "order": 2}}), r"losses\.supervised\.pitc"),
        (RUN.model_copy(update={"seed": 1}), painn(), Loss(), r"run\.seed: 0, and the config says 1"),
    ],
)  # fmt: skip
def test_a_model_of_another_config_is_refused_with_the_key_that_differs(trained, run, model, loss, said):
    with pytest.raises(PiwslError, match=said):
        check_trained_by(trained, run, model, loss)
