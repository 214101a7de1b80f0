"""Architectures and terms of losses that other distributions bring: those of the documentation, used as ours are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, distribution, morse_frames

from piwsl.config import ARCHITECTURES, LOSS_TERMS, ConfigError, Loss, parse_model, parse_section
from piwsl.errors import PiwslError
from piwsl.models import build_potential
from piwsl.models.probe import check_network, fragments
from piwsl.structures.frames import read_frames, write_frames
from piwsl.structures.structure import from_atoms

TOYS = ROOT / "tests" / "toys"
NETWORKS, TERMS = "piwsl.architectures", "piwsl.loss_terms"
RECIPE = """
model:
  architecture: toy
  cutoff: 4.0
  gaussians: 12
  training: {steps: 30, validate_every: 10}
loss:
  curvature: {weight: 0.1, share: 0.5}
"""


@pytest.mark.parametrize("toy", sorted(TOYS.glob("toy_*.py")), ids=lambda path: path.stem)
def test_the_page_on_extending_shows_the_toys_of_these_tests(toy):
    """In full, for the page is read in the repository, too, where nothing is put in."""
    page = (ROOT / "docs/how-to/extend.md").read_text()
    assert f"```python\n{toy.read_text().strip()}\n```" in page


@pytest.fixture
def installed(tmp_path) -> Path:
    """Both toys, installed, beside labelled frames and a recipe that names them."""
    distribution(
        tmp_path,
        "toy_architecture",
        (TOYS / "toy_architecture.py").read_text(),
        {NETWORKS: "toy = toy_architecture:Toy"},
    )
    distribution(tmp_path, "toy_term", (TOYS / "toy_term.py").read_text(), {TERMS: "curvature = toy_term:Curvature"})
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 12, forces=True))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where a folder's distributions are installed."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def piwsl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "piwsl", *arguments)


def test_kinds_of_another_distribution_train_predict_and_are_described(installed):
    done = piwsl(installed, "train", "frames.xyz", "toy", "--config", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    shown = piwsl(installed, "info", "toy/model.safetensors").stdout
    assert "architecture: toy" in shown
    assert "gaussians: 12" in shown
    done = piwsl(installed, "predict", "toy/model.safetensors", "frames.xyz", "out.xyz")
    assert done.returncode == 0, done.stderr
    assert len(read_frames(installed / "out.xyz")) == 12
    schema = json.loads(piwsl(installed, "schema").stdout)
    assert "curvature" in schema["$defs"]["Loss"]["properties"]


def test_without_the_distribution_its_models_and_configs_are_one_line_that_names_what_there_is(
    installed, tmp_path_factory
):
    done = piwsl(installed, "train", "frames.xyz", "toy", "--config", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("frames.xyz", "recipe.yaml", "toy/model.safetensors"):
        (elsewhere / Path(name).name).write_bytes((installed / name).read_bytes())
    predicted = piwsl(elsewhere, "predict", "model.safetensors", "frames.xyz", "out.xyz")
    trained = piwsl(elsewhere, "train", "frames.xyz", "again", "--config", "recipe.yaml")
    for done in (predicted, trained):
        assert done.returncode == 1
        assert done.stderr.strip().endswith("no architecture 'toy'; known are gaussian_process, mace, painn, schnet")
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "entry", "problem"),
    [
        ("raise RuntimeError('no licence')", "toy = broken:Toy", "RuntimeError: no licence"),
        ("x = 1", "toy = broken:Toy", "AttributeError"),
        ("class Toy: pass", "toy = broken:Toy", "is no Architecture of piwsl's"),
        ("from piwsl.architectures.painn import PaiNN", "painn = broken:PaiNN", "which piwsl has itself"),
    ],
)
def test_a_broken_kind_is_one_line_that_names_its_distribution(tmp_path, source, entry, problem):
    distribution(tmp_path, "broken", source, {NETWORKS: entry})
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 4))
    name = entry.partition(" ")[0]
    done = piwsl(tmp_path, "train", "frames.xyz", "broken-model", "--architecture", name)
    assert done.returncode == 1
    assert "broken 1.0" in done.stderr
    assert problem in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("ours", ["painn", "schnet"])
def test_a_broken_kind_harms_none_that_is_not_it(tmp_path, ours):
    distribution(tmp_path, "broken", "raise RuntimeError('no licence')", {NETWORKS: "toy = broken:Toy"})
    code = f"from piwsl.config import parse_model; print(parse_model({{'architecture': '{ours}'}}, 'x').architecture)"
    assert run(tmp_path, "-c", code).stdout == f"{ours}\n"


def test_a_change_of_a_distribution_that_a_run_uses_trains_it_again_and_no_other(installed):
    code = """
from pathlib import Path
from piwsl.config import Experiment, parse_section
from piwsl.workflow.jobs import Jobs
config = {"experiment": "e", "datasets": {"d": {"file": "frames.xyz", "test_frames": 2}}, "sizes": [4], "seeds": [0],
    "models": {"toy": {"architecture": "toy"}, "painn": {"architecture": "painn"}},
    "losses": {"plain": {}, "weak": {"curvature": {"weight": 1.0}}}}
jobs = Jobs(parse_section(Experiment, config, "config"), Path("."))
print([jobs.others(model, loss) for model in ("toy", "painn") for loss in ("plain", "weak")])
"""
    toy, both, none, term = eval(run(installed, "-c", code).stdout)
    assert set(toy) == {"toy"}
    assert set(both) == {"toy", "curvature"}
    assert none == {}
    assert set(term) == {"curvature"}
    (installed / "toy_term.py").write_text((TOYS / "toy_term.py").read_text().replace("A: -2.0", "A: -2.1"))
    toy_then, both_then, _, term_then = eval(run(installed, "-c", code).stdout)
    assert toy_then == toy
    assert both_then["toy"] == both["toy"]
    assert both_then["curvature"] != both["curvature"]
    assert term_then != term


def test_two_distributions_of_one_name_are_refused_together(tmp_path):
    source = (TOYS / "toy_architecture.py").read_text()
    for name in ("one", "two"):
        distribution(tmp_path, name, source, {NETWORKS: f"toy = {name}:Toy"})
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 4))
    done = piwsl(tmp_path, "train", "frames.xyz", "model", "--architecture", "toy")
    assert done.returncode == 1
    assert "one 1.0" in done.stderr
    assert "two 1.0" in done.stderr


def test_tensors_that_a_file_does_not_hold_are_there_when_the_model_is_loaded(tmp_path):
    source = (TOYS / "toy_architecture.py").read_text()
    buffer = 'self.register_buffer("centres", torch.linspace(0.5, config.cutoff, config.gaussians))'
    assert buffer in source
    # One plain tensor, one buffer that is not saved, two names of one weight, and bytes.
    source = source.replace(
        buffer,
        "self.centres = torch.linspace(0.5, config.cutoff, config.gaussians)\n"
        '        self.register_buffer("width", torch.tensor(4.0), persistent=False)\n'
        '        self.register_buffer("kinds", torch.zeros(3, dtype=torch.uint8))',
    ).replace("-4.0 *", "-self.width *")
    source = source.replace("config.gaussians))\n\n", "config.gaussians))\n        self.twin = self.weights\n\n")
    distribution(tmp_path, "toy_architecture", source, {NETWORKS: "toy = toy_architecture:Toy"})
    write_frames(tmp_path / "frames.xyz", morse_frames("H2O", 12, forces=True))
    (tmp_path / "recipe.yaml").write_text("model: {architecture: toy, cutoff: 4.0, training: {steps: 20}}\n")
    done = piwsl(tmp_path, "train", "frames.xyz", "toy", "--config", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    done = piwsl(tmp_path, "evaluate", "toy/model.safetensors", "frames.xyz")
    assert done.returncode == 0, done.stderr
    assert "energy_mae_meV" in done.stdout


@pytest.mark.parametrize(
    ("name", "base", "means", "problem"),
    [
        ("total", "DisplacedTerm", '{"": Mean(Residual({C: 1.0, A: -1.0}), self.weight)}', "gives the mean 'total'"),
        ("pitc_x", "DisplacedTerm", '{"": Mean(Residual({C: 1.0, A: -1.0}), self.weight)}', None),
        ("still", "LossTerm", '{"": Mean(Residual({C: 1.0, A: -1.0}), self.weight)}', "is no DisplacedTerm"),
        ("still", "LossTerm", '{"": Mean(ForceError(C, "weak"), self.weight)}', "is no DisplacedTerm"),
        ("here", "LossTerm", '{"": Mean(ForceError(A, "weak"), self.weight)}', None),
    ],
)
def test_a_term_that_would_be_lost_or_zero_is_refused(tmp_path, name, base, means, problem):
    source = f"""
from piwsl.config import DisplacedTerm, LossTerm
from piwsl.residuals import A, C, ForceError, Mean, Residual

class Mine({base}):
    def means(self, loss):
        return {means}
"""
    distribution(tmp_path, "mine", source, {TERMS: f"{name} = mine:Mine"})
    code = f"""
from piwsl.config import Loss, parse_section
print(list(parse_section(Loss, {{'{name}': {{'weight': 1.0}}}}, 'loss').terms))
"""
    done = run(tmp_path, "-c", code)
    if problem is None:
        assert done.stdout == f"['{name}']\n"
    else:
        assert f"loss: {name}: " in done.stderr
        assert problem in done.stderr


def origin(folder: Path, name: str = "toy") -> str:
    """Where an architecture comes from, as a process finds it that is started now."""
    done = run(folder, "-c", f"from piwsl.config import ARCHITECTURES; print(ARCHITECTURES.origin('{name}'))")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", ["a folder on the path", "recorded", "editable"])
def test_all_modules_of_a_distribution_are_its_sources_and_others_beside_them_are_not(tmp_path, how):
    source = (TOYS / "toy_architecture.py").read_text()
    lazily = source.replace('"""Build the network."""', '"""Build the network."""\n        import layers\n')
    assert lazily != source
    site = project = tmp_path
    if how == "editable":
        project = tmp_path / "project"
        project.mkdir()
    distribution(site, "first", "", {NETWORKS: "toy = first:Toy"})
    (site / "first.py").unlink()
    (project / "first.py").write_text(lazily)
    (project / "layers.py").write_text("from deeper.inner import WIDTH\n")
    (project / "deeper").mkdir()
    (project / "deeper" / "inner.py").write_text("WIDTH = 1\n")
    (project / "unrelated.py").write_text("WIDTH = 1\n")
    info = site / "first-1.0.dist-info"
    if how == "recorded":
        (info / "RECORD").write_text("first.py,,\nlayers.py,,\ndeeper/inner.py,,\n__pycache__/first.pyc,,\nRECORD,,\n")
    if how == "editable":
        (info / "RECORD").write_text("__editable__.first-1.0.pth,,\nRECORD,,\n")
        (site / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(project)!r})\n")
    before = origin(site)
    (project / "unrelated.py").write_text("WIDTH = 2\n")
    assert origin(site) == before
    (project / "deeper" / "inner.py").write_text("WIDTH = 2\n")
    assert origin(site) != before


def test_what_tools_leave_in_a_package_is_no_source_of_it_and_one_without_init_has_sources_too(tmp_path):
    package = tmp_path / "grown"
    package.mkdir()
    distribution(tmp_path, "unused", "", {NETWORKS: "toy = grown.inner:Toy"})
    (package / "inner.py").write_text((TOYS / "toy_architecture.py").read_text())
    bare = origin(tmp_path)
    assert bare.startswith("unused 1.0, ")
    (package / "__init__.py").write_text("")
    before = origin(tmp_path)
    (package / ".inner.py.swp").write_text("x")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "inner.nbi").write_text("x")
    assert origin(tmp_path) == before
    (package / "table.csv").write_text("1\n")
    assert origin(tmp_path) != before


def test_a_model_file_names_the_distributions_that_it_was_made_with(installed):
    reader = "from piwsl.readers.extxyz import ExtendedXYZ\nclass Mine(ExtendedXYZ):\n    suffixes = ('.mine',)\n"
    distribution(installed, "toy_reader", reader, {"piwsl.readers": "mine = toy_reader:Mine"})
    (installed / "frames.xyz").rename(installed / "frames.mine")
    done = piwsl(installed, "train", "frames.mine", "toy", "--config", "recipe.yaml", "--steps", "2")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(piwsl(installed, "info", "toy/model.safetensors").stdout)["provenance"]["distributions"] == {
        "architectures.toy": "toy_architecture 1.0",
        "loss_terms.curvature": "toy_term 1.0",
        "readers.mine": "toy_reader 1.0",
    }


@pytest.fixture
def bring(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Installs, for this process, a distribution 'mine' whose class Mine is a term, or another kind, of a name."""
    registries = {TERMS: LOSS_TERMS, NETWORKS: ARCHITECTURES}

    def install(name: str, source: str, group: str = TERMS) -> None:
        distribution(tmp_path, "mine", source, {group: f"{name} = mine:Mine"})
        monkeypatch.syspath_prepend(tmp_path)
        vars(registries[group]).pop("_others", None)

    yield install
    for registry in registries.values():
        vars(registry).pop("_others", None)
    sys.modules.pop("mine", None)


TERM = (TOYS / "toy_term.py").read_text().replace("Curvature", "Mine")


@pytest.mark.parametrize("name", ["energy", "function", "every"])
def test_a_term_named_like_another_key_of_a_loss_is_refused_where_that_key_is_said(bring, name):
    bring(name, TERM)
    value = {"energy": 2.0, "function": "mse", "every": 2}[name]
    assert parse_section(Loss, {"forces": 2.0, "pitc": {"weight": 1.0}}, "loss").forces == 2.0
    with pytest.raises(ConfigError) as refused:
        parse_section(Loss, {name: value}, "loss")
    assert str(refused.value) == (
        f"loss: {name}: mine 1.0 brings piwsl.loss_terms '{name}', a key of another meaning there; rename its entry "
        "point, or uninstall it"
    )


ODD_TERM = """
from piwsl.config import DisplacedTerm
from piwsl.residuals import A, C, ForceError, Mean, Point, Residual, StressError, Work

class Mine(DisplacedTerm):
    def means(self, loss):
        return {"": Mean(Residual({C: 1.0, A: -1.0}), self.weight)}

"""
ONE_MEAN = "    def means(self, loss): return {{'': {}}}"
ODD_TERMS = {
    "    def means(self, loss): return None": "means() gives None, expected one Mean or more by name",
    "    def means(self, loss): return {}": "means() gives {}, expected one Mean or more by name",
    "    def means(self, loss): return {'a b': None}": "means() calls a part 'a b'; take letters, digits and _",
    "    def means(self, loss): return {'': self.wieght}": (
        "failed (AttributeError: 'Mine' object has no attribute 'wieght')"
    ),
    ONE_MEAN.format("(1.0, 2.0)"): "its mean '' is tuple, no Mean",
    ONE_MEAN.format("Mean(Residual({C: 1.0}), -1.0)"): "its mean '' has the weight -1.0, no number from 0 on",
    ONE_MEAN.format("Mean(C, 1.0)"): "its mean '' is of Point; take Residual, ForceError or StressError",
    ONE_MEAN.format("Mean(StressError('refrence'), 1.0)"): (
        "its mean '' is of level 'refrence'; known are reference, weak"
    ),
    ONE_MEAN.format("Mean(Residual({}, label_energy=1.0), 1.0)"): (
        "its mean '' asks nothing of the model; give energies or works"
    ),
    ONE_MEAN.format("Mean(Residual({C: None}), 1.0)"): "its mean '' has a factor that is no finite number",
    ONE_MEAN.format("Mean(Residual({A: 1.0}, {(A, C): 1.0}), 1.0)"): (
        "its mean '' has energies, works or label_works that are no dict of Point, Work and Point"
    ),
    ONE_MEAN.format("Mean(Residual({A: 1.0}, {Work(A, 'C'): 1.0}), 1.0)"): (
        "its mean '' has a work along what is no Point of two numbers"
    ),
    ONE_MEAN.format("Mean(ForceError('A', 'weak'), 1.0)"): "its mean '' is at 'A', which is no Point of two numbers",
    ONE_MEAN.format("Mean(Residual({Point(1.5, 0.0): 1.0}), 1.0)"): (
        "its mean '' is at (1.5, 0.0), beyond neighbour lists; take |along| + |across| <= 1"
    ),
    "    def factor(self, step, loss): return None": "factor() gives None at step 0, no number from 0 on",
    "    def factor(self, step, loss): return 1 - step": "factor() gives -9 at step 10, no number from 0 on",
    "    def structures(self, total): return 2 * total": "structures(1) gives 2, no number of them",
    "    def check(self, loss): raise KeyError('x')": "check() failed (KeyError: 'x')",
}


@pytest.mark.parametrize("body", ODD_TERMS, ids=list(map(str, range(len(ODD_TERMS)))))
def test_a_term_that_gives_what_no_loss_can_be_made_of_is_one_line_that_names_its_distribution(bring, body):
    bring("odd", ODD_TERM + body)
    with pytest.raises(ConfigError) as refused:
        parse_section(Loss, {"odd": {"weight": 1.0}, "start": 10}, "loss")
    assert str(refused.value) == f"loss: odd: mine 1.0: {ODD_TERMS[body]}; mend it"


def test_a_factor_that_is_none_later_on_is_one_line_too(bring):
    bring("odd", ODD_TERM + "    def factor(self, step, loss): return 1.0 if step < 5 else None")
    loss = parse_section(Loss, {"odd": {"weight": 1.0}}, "loss")
    assert loss.factors(4)["odd"] == 1.0
    with pytest.raises(PiwslError) as refused:
        loss.factors(5)
    assert str(refused.value) == "odd: mine 1.0: factor() gives None at step 5, no number from 0 on; mend it"


def test_validators_of_a_term_that_fail_are_one_line_too(bring):
    source = "from pydantic import model_validator\n" + ODD_TERM.replace(
        "(DisplacedTerm):",
        """(DisplacedTerm):
    @model_validator(mode="after")
    def own(self):
        raise TypeError("no " + 200 * "x")
""",
    )
    bring("odd", source)
    with pytest.raises(ConfigError) as refused:
        parse_section(Loss, {"odd": {"weight": 1.0}}, "loss")
    assert str(refused.value).startswith("loss: odd: mine 1.0: failed (TypeError: no xxx")
    assert len(str(refused.value)) <= 200


NETWORK = (TOYS / "toy_architecture.py").read_text().replace("Toy", "Mine").replace('"toy"', '"mine"')
ENVELOPE = " * cosine_cutoff(distance, self.cutoff)"
RETURNED = "return curves.new_zeros(len(batch.atomic_numbers)).index_add(0, receiver, curves), None"
ODD_NETWORKS = {
    "return out": "gives Tensor, expected outputs and forces, or outputs and None",
    "return out[:, None], None": "gives outputs that are of shape (5, 1), expected (5,)",
    "return out.sum(), None": "gives outputs that are of shape (), expected (5,)",
    "return out.tolist(), None": "gives outputs that are list, expected a tensor",
    "return out.half(), None": "gives outputs that are torch.float16, expected torch.float32",
    "return out / 0.0, None": "gives outputs that are not finite",
    "return out.detach(), None": "gives outputs that have no gradient by the positions",
    "return out + (0.0 * distance).sqrt().sum(), None": ("gives outputs that have no finite gradient by the positions"),
    "return out, batch.positions": "gives forces, and conservative is True",
    "return out @ out.new_zeros(7), None": "failed (RuntimeError: inconsistent tensor size, expected tensor [5]",
    "raise SystemExit(3)": "failed (SystemExit: 3)",
}


def untrained(**keys: object) -> None:
    """Make a model of the architecture for frames of water."""
    model = parse_model({"architecture": "mine", "cutoff": 4.0} | keys, "model")
    build_potential(model, [from_atoms(atoms) for atoms in morse_frames("H2O", 3)])


@pytest.mark.parametrize("body", ODD_NETWORKS, ids=list(map(str, range(len(ODD_NETWORKS)))))
def test_a_network_that_gives_what_it_must_not_is_one_line_before_it_is_trained(bring, body):
    assert RETURNED in NETWORK
    out = RETURNED.removeprefix("return ").removesuffix(", None")
    bring("mine", NETWORK.replace(RETURNED, f"out = {out}\n        {body}"), NETWORKS)
    with pytest.raises(PiwslError) as refused:
        untrained()
    assert str(refused.value).startswith(f"mine 1.0: architecture 'mine': its network {ODD_NETWORKS[body]}")
    assert str(refused.value).endswith("; mend it")
    assert len(str(refused.value)) <= 200


def test_a_network_without_forces_of_its_own_is_conservative(bring):
    direct = "    @property\n    def conservative(self) -> bool:\n        return False\n\n    def network("
    bring("mine", NETWORK.replace("    def network(", direct, 1), NETWORKS)
    with pytest.raises(PiwslError, match="gives no forces, and conservative is False"):
        untrained()


NOT_LOCAL = "    @property\n    def local(self) -> bool:\n        return False\n\n    def network("
PAIRS = "torch.cdist(batch.positions, batch.positions) * (batch.structure_index[:, None] == batch.structure_index)"
SEEING = {
    "no envelope": NETWORK.replace(ENVELOPE, ""),
    "all pairs": NETWORK.replace("curves), None", f"curves) + (0.01 * ({PAIRS}) ** 2).sum(dim=1), None"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", SEEING)
def test_a_network_that_sees_beyond_its_cutoff_is_refused(bring, how, dtype):
    bring("mine", SEEING[how], NETWORKS)
    with pytest.raises(PiwslError) as refused:
        untrained(dtype=dtype)
    assert "its network sees beyond its cutoff of 4 Å: fragments 4.3 Å apart differ by" in str(refused.value)
    assert len(str(refused.value)) <= 200


@pytest.mark.parametrize("how", SEEING)
def test_a_network_that_says_that_it_is_not_local_may_see_all(bring, how):
    bring("mine", SEEING[how].replace("    def network(", NOT_LOCAL, 1), NETWORKS)
    untrained()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "section",
    [
        {"architecture": "painn", "layers": 6},
        {"architecture": "painn", "forces": "direct", "cutoff": 0.5},
        {"architecture": "schnet", "layers": 6, "features": 256},
        {"architecture": "mace", "features": 8, "dtype": "float64"},
        {"architecture": "mace", "features": 8, "cutoff": 12.0},
    ],
    ids=lambda section: " ".join(map(str, section.values())),
)
def test_ours_of_any_size_give_what_they_must(section, seed):
    torch.manual_seed(seed)
    build_potential(parse_model(section, "model"), [from_atoms(atoms) for atoms in morse_frames("CH3OH", 2)])


def test_what_is_looked_at_is_left_as_it_was(bring):
    random = NETWORK.replace("curves), None", "nn.functional.dropout(curves, 0.5, self.training)), None")
    assert random != NETWORK
    bring("mine", random, NETWORKS)
    model = parse_model({"architecture": "mine", "cutoff": 4.0}, "model")
    network, before = model.network([1, 8], 2.0), torch.get_rng_state()
    check_network(model, network, torch.float32, fragments([1, 8], 4.0))
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
