"""Architecture files: equal potentials give equal bytes; what was changed, cut off or made up is refused in a line."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import ROOT
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import piwsl
from piwsl.architectures.mace import MACE
from piwsl.architectures.painn import PaiNN
from piwsl.architectures.schnet import SchNet
from piwsl.cli import app
from piwsl.config import Architecture
from piwsl.errors import PiwslError
from piwsl.models import Potential, save_model
from piwsl.models.storage import read_header

SMALL: dict[str, Any] = {"cutoff": 4.0, "features": 8, "layers": 2, "radial": 6}
MODELS: dict[str, Architecture] = {
    "painn": PaiNN(architecture="painn", **SMALL),
    "schnet": SchNet(architecture="schnet", **SMALL),
    "mace": MACE(architecture="mace", max_ell=1, max_L=0, correlation=2, **(SMALL | {"features": 2})),
}
# Bytes that a refusal may take beyond what the process has: the file is 20 kB.
ALLOWED = 500_000_000


def untrained(config: Architecture) -> Potential:
    torch.manual_seed(0)
    return Potential(config, scale=1.7, references={1: -13.6, 8: -2041.0}, neighbours=2.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, bytes]:
    """A model file of every architecture."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    contents = {}
    for name, config in MODELS.items():
        save_model(path, untrained(config), PROVENANCE)
        contents[name] = path.read_bytes()
    return contents


Header = dict[str, Any]


def taken_apart(content: bytes) -> tuple[Header, bytes]:
    """Return the header of a safetensors file, the JSON of its metadata read, and the data."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = {key: json.loads(value) for key, value in header["__metadata__"].items()}
    return header, content[start:]


def put_together(header: Header, data: bytes) -> bytes:
    metadata = {key: json.dumps(value) for key, value in header["__metadata__"].items()}
    text = json.dumps(header | {"__metadata__": metadata}).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_header(content: bytes, change: Callable[[Header], object]) -> bytes:
    """Return a file whose metadata were changed in place."""
    header, data = taken_apart(content)
    change(header["__metadata__"])
    return put_together(header, data)


def with_tensors(content: bytes, folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    """Return a file whose tensors were changed in place."""
    path = folder / "changed.safetensors"
    path.write_bytes(content)
    tensors = load_file(path)
    change(tensors)
    header, _ = taken_apart(content)
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in header["__metadata__"].items()})
    return path.read_bytes()


def refusal(content: bytes, folder: Path) -> str:
    """Return the line that a file is refused with."""
    path = folder / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(PiwslError) as caught:
        piwsl.load_model(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert len(line) <= 400
    assert line.isprintable()
    return line


WRITE_ONE = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
import test_model_files
potential = test_model_files.untrained(test_model_files.MODELS["painn"])
test_model_files.save_model(Path({path!r}), potential, {provenance!r})
"""
PROVENANCE = {"data": "abc"}


def test_another_process_writes_the_same_bytes(written, tmp_path):
    path = tmp_path / "model.safetensors"
    paths = [str(Path(__file__).parent), str(ROOT / "tests")]
    script = WRITE_ONE.format(paths=paths, path=str(path), provenance=PROVENANCE)
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": "1"}, check=True)
    assert path.read_bytes() == written["painn"]


def test_a_file_is_safetensors_whatever_the_order_of_its_header(written, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(written["painn"])
    header, data = taken_apart(written["painn"])
    assert len(written["painn"]) - len(data) == 8 + int.from_bytes(written["painn"][:8], "little")
    assert (len(written["painn"]) - len(data)) % 8 == 0
    asked = read_header(path)
    # As the library writes it: any order, nothing filled up.
    path.write_bytes(put_together(dict(reversed(header.items())), data))
    assert read_header(path) == asked
    assert list(read_header(path)) == list(asked)
    loaded, tensors = piwsl.load_model(path).state_dict(), load_file(path)
    assert all(tensors[key].numpy().tobytes() == loaded[key].numpy().tobytes() for key in tensors)
    path.write_bytes(b"")
    assert torch.isfinite(loaded["learned.network.embedding.weight"]).all()


@pytest.mark.parametrize("architecture", MODELS)
def test_what_is_written_is_read(written, tmp_path, architecture):
    path = tmp_path / "model.safetensors"
    path.write_bytes(written[architecture])
    loaded, potential = piwsl.load_model(path), untrained(MODELS[architecture])
    for key, tensor in potential.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], tensor, rtol=0, atol=0, equal_nan=True)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(tensor.is_meta for tensor in loaded.state_dict().values())


@pytest.mark.parametrize("key", ["config", "elements", "neighbours", "units", "conservative", "provenance", "versions"])
@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [[]], "missing"])
def test_a_header_that_lacks_a_key_or_has_another_kind_of_value_is_refused(written, tmp_path, key, value):
    allowed = {("provenance", "{}"), ("versions", "{}"), ("neighbours", "3")}
    if (key, str(value)) in allowed:
        return

    def change(header: Header) -> None:
        header.pop(key)
        if value != "missing":
            header[key] = value

    line = refusal(with_header(written["painn"], change), tmp_path)
    assert key in line


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"neighbours": float("nan")}, "neighbours: input should be"),
        ({"neighbours": -1.0}, "neighbours: input should be greater than 0"),
        ({"neighbours": float("inf")}, "neighbours: input should be a finite number"),
        ({"elements": ["H", "Xx"]}, "elements: no element 'Xx'"),
        ({"elements": ["H", "X"]}, "elements: no element 'X'"),
        ({"elements": ["H", "O", "H"]}, "elements: H stands there more than once"),
        ({"elements": ["H", "C"]}, "its reference energies are not those of H, C"),
        ({"elements": ["H"]}, "its reference energies are not those of H"),
        ({"units": {"energy": "Hartree", "length": "Å", "forces": "eV/Å"}}, "units: found"),
        ({"conservative": False}, "conservative: False does not fit its config"),
        ({"provenance": json.loads("[" * 100 + "]" * 100)}, "nests more than 20 levels"),
    ],
)
def test_a_header_with_impossible_values_is_refused(written, tmp_path, changes, complaint):
    assert complaint in refusal(with_header(written["painn"], lambda header: header.update(changes)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": "pain"}, "config: architecture: no architecture 'pain'; did you mean 'painn'?"),
        ({"features": "many"}, "config: features: input should be a valid integer"),
        ({"feature": 8}, "config: unknown key 'feature'; did you mean 'features'?"),
        ({"training": {"steps": -1}}, "config: training.steps: input should be greater than or equal to 1"),
        ({"a\x1b[2Jb\n": 1}, r"unknown key 'a\x1b[2Jb\n'"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_key(written, tmp_path, changes, complaint):
    content = with_header(written["painn"], lambda header: header["config"].update(changes))
    assert complaint in refusal(content, tmp_path)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(
    "changes",
    [
        {"features": 16},
        {"features": 2048},
        {"layers": 1},
        {"layers": 16},
        {"radial": 7},
        {"radial": 1024},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_their_config_are_refused_before_anything_of_that_size_is_made(
    written, tmp_path, architecture, changes
):
    content = with_header(written[architecture], lambda header: header["config"].update(changes))
    assert "its weights do not fit its config: " in refusal(content, tmp_path)


@pytest.mark.parametrize("key", ["features", "layers", "radial", "max_ell", "max_L", "correlation"])
@pytest.mark.parametrize("value", [30_000, 10**12, 10**4000], ids=["30,000", "10^12", "10^4000"])
def test_sizes_that_no_config_may_have_are_refused_as_in_a_config(written, tmp_path, key, value):
    content = with_header(written["mace"], lambda header: header["config"].update({key: value}))
    assert f"config: {key}: " in refusal(content, tmp_path)


@pytest.mark.parametrize("changes", [{"max_ell": 2}, {"max_ell": 3, "correlation": 3, "max_L": 3}, {"correlation": 1}])
def test_a_mace_of_other_degrees_is_refused(written, tmp_path, changes):
    content = with_header(written["mace"], lambda header: header["config"].update(changes))
    assert "its weights do not fit its config: " in refusal(content, tmp_path)


def test_direct_forces_need_their_head(written, tmp_path):
    content = with_header(written["painn"], lambda header: header["config"].update(forces="direct"))
    assert "learned.network.force_head" in refusal(content, tmp_path)


EMBEDDING = "learned.network.embedding.weight"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(EMBEDDING), f"{EMBEDDING}: found none, expected F32 [119, 8]"),
        (lambda t: t.update(more=torch.zeros(2)), "more: found F32 [2], expected none"),
        (lambda t: t.update({EMBEDDING: t[EMBEDDING].T.contiguous()}), f"{EMBEDDING}: found F32 [8, 119]"),
        (lambda t: t.update({EMBEDDING: t[EMBEDDING].double()}), f"{EMBEDDING}: found F64"),
        (lambda t: t.update({EMBEDDING: t[EMBEDDING].int()}), f"{EMBEDDING}: found I32"),
        (lambda t: t.update({EMBEDDING: t[EMBEDDING].to(torch.complex64)}), f"{EMBEDDING}: found C64"),
        (lambda t: t[EMBEDDING].fill_(torch.nan), f"{EMBEDDING} holds a number that is not finite"),
        (lambda t: t["learned.scale"].fill_(torch.inf), "learned.scale holds a number that is not finite"),
        (lambda t: t["references.energies"].fill_(torch.nan), "its reference energies are not those of H, O"),
        (lambda t: t["references.energies"][1].fill_(torch.inf), "references.energies holds a number that is not"),
        (dict.clear, "its weights do not fit its config"),
    ],
)
def test_tensors_that_are_not_those_of_the_config_are_refused(written, tmp_path, change, complaint):
    assert complaint in refusal(with_tensors(written["painn"], tmp_path, change), tmp_path)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ("piwsl-potential-1", "written by an older piwsl (format piwsl-potential-1"),
        ("piwsl-potential-5", "written by a newer piwsl (format piwsl-potential-5"),
        ("piwsl-potential-", "not a model file of piwsl; found format 'piwsl-potential-'"),
        ("pt", "not a model file of piwsl; found format 'pt'"),
        ({"a": 1}, "not a model file of piwsl"),
    ],
)
def test_another_format_says_what_to_do(written, tmp_path, found, complaint):
    assert complaint in refusal(with_header(written["painn"], lambda header: header.update(format=found)), tmp_path)


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("save", ["pickle", "torch"])
def test_a_pickle_is_never_unpickled(tmp_path, suffix, save):
    path, harm = tmp_path / f"model{suffix}", tmp_path / "harm"
    if save == "pickle":
        path.write_bytes(pickle.dumps({"weights": Harm(harm)}))
    else:
        torch.save({"weights": Harm(harm)}, path)
    for read in (piwsl.load_model, read_header):
        with pytest.raises(PiwslError, match="not a model file of piwsl"):
            read(path)
    assert not harm.exists()


def test_a_model_file_that_was_cut_off_says_how_it_is_made_again(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    save_model(path, Potential(PaiNN(architecture="painn", features=8, layers=1), 5.0, {1: 0.0}, neighbours=1.0), {})
    path.write_bytes(path.read_bytes()[:-100])
    for read in (piwsl.load_model, read_header):
        with pytest.raises(PiwslError, match=r"model.safetensors: .*damaged.*; .*delete it, and it is made again"):
            read(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name, complaint in ((".", "not a file"), ("pipe", "not a file"), ("empty", "not a model file")):
        with pytest.raises(PiwslError, match=complaint):
            piwsl.load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("cup", "device 'cup' is unknown; say cpu, cuda or cuda:N"),
        ("", "device '' is unknown"),
        ("cuda:-1", "device 'cuda:-1' is unknown"),
        ("meta", "device 'meta' cannot be used; say cpu"),
        ("mps", "device 'mps' cannot be used; say cpu"),
        ("cuda:99", "device 'cuda:99' "),
    ],
)
def test_a_device_that_cannot_be_used_is_said_before_the_file_is_read(tmp_path, device, complaint):
    with pytest.raises(PiwslError, match=complaint):
        piwsl.load_model(tmp_path / "absent", device)


def test_commands_say_what_is_wrong_with_a_model(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("frames.xyz").write_text("1\n\nH 0 0 0\n")
    Path("a.safetensors").write_bytes(with_header(written["painn"], lambda header: header["config"].update(features=4)))
    for arguments in (["predict", "a.safetensors", "frames.xyz", "out.xyz"], ["md", "a.safetensors", "frames.xyz"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert result.output.startswith("error: a.safetensors: its weights do not fit its config: ")
        assert result.output.count("\n") == 1


# Values that any key of any header may be given: wrong kinds, wrong signs, absurd sizes.
STRANGE: list[Any] = [
    None, True, -1, 0, 1, 3, 10**9, 2**63, 2**64, -0.5, 1e-300, 1e300, float("nan"), float("inf"), "", "painn", "mace",
    "a\nb\x1b[0m", "\ud800", "x" * 10_000, [], [[]], {}, {"a": {"b": []}}, ["H"], ["H", "O", "O"], [1, 2],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all parts of nested mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in items for place in [(*path, key), *places(part, (*path, key))]]


def mutated_header(content: bytes, rng: random.Random) -> bytes:
    """Give one to three parts of the header another value, or take them away."""
    header, data = taken_apart(content)
    header = copy.deepcopy(header)
    for _ in range(rng.randint(1, 3)):
        # Half of the changes in what is ours; tensors have many more keys.
        inside = rng.random() < 0.7
        candidates = places(header["__metadata__"], ("__metadata__",)) if inside else places(header)
        place = rng.choice([place for place in candidates if place != ("__metadata__",)])
        parent = header
        for key in place[:-1]:
            parent = parent[key]
        if rng.random() < 0.2:
            del parent[place[-1]]
        else:
            parent[place[-1]] = rng.choice(STRANGE)
    return put_together(header, data)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip bytes, in the header more often than elsewhere; cut off; insert; repeat."""
    start = 8 + int.from_bytes(content[:8], "little")
    changed = bytearray(content)
    kind = rng.choice(["flip", "flip header", "flip length", "cut", "cut header", "insert", "double", "length"])
    if kind == "cut":
        del changed[rng.randrange(len(changed)) :]
    elif kind == "cut header":
        del changed[rng.randrange(start) :]
    elif kind == "insert":
        at = rng.randrange(len(changed))
        changed[at:at] = rng.randbytes(rng.randint(1, 16))
    elif kind == "double":
        changed += bytes(changed)
    elif kind == "length":
        changed[:8] = rng.choice([0, 1, 2**16, 2**31, 2**60, 2**63, 2**64 - 1, start, len(changed)]).to_bytes(
            8, "little"
        )
    else:
        end = {"flip": len(changed), "flip header": start, "flip length": 8}[kind]
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(end)] = rng.randrange(256)
    return bytes(changed)


CASES = 600


def check_usable(path: Path) -> None:
    assert piwsl.load_model(path).elements() == ["H", "O"]


def check_shown(path: Path) -> None:
    assert yaml.safe_dump(read_header(path), allow_unicode=True)


def complaint(action: Callable[[], None]) -> str | None:
    """Return what a PiwslError says, or None; anything else is raised."""
    try:
        action()
    except PiwslError as error:
        return str(error)
    return None


def test_whatever_is_done_to_a_model_file_it_loads_or_is_refused_in_one_line(written, tmp_path):
    path, rng = tmp_path / "model.safetensors", random.Random(0)
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(CASES):
        # One of ten a MACE: only they take time to build.
        architecture = "mace" if case % 10 == 0 else rng.choice(["painn", "schnet"])
        content = rng.choice([mutated_header, mutated_header, mutated_bytes])(written[architecture], rng)
        path.write_bytes(content)
        complaints = [complaint(lambda: check_usable(path)), complaint(lambda: check_shown(path))]
        refused += complaints[0] is not None
        for text in filter(None, complaints):
            assert text.isprintable(), f"case {case}: {text!r}"
            assert len(text) <= 400, f"case {case}: {text!r}"
    # A flipped bit of a weight cannot be seen, nor that of a learning rate; nearly all else is.
    assert refused > 0.6 * CASES
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < ALLOWED
