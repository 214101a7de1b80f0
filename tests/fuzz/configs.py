"""Configs that somebody might write: shipped ones with a few things changed, each by its number again the same."""

from __future__ import annotations

import copy
import gzip
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from helpers import ROOT, morse_frames

from piwsl.structures.frames import write_frames

Config = dict[str, Any]
Keys = list[Any]

# Every key once, with what is not its default.
FULL: Config = {
    "experiment": "full",
    "levels": {
        "hf": {"method": "hf", "basis": "sto-3g", "density_fitting": False},
        "pbe": {"method": "dft", "functional": "pbe0", "dispersion": "d4", "basis": "def2-svp", "grid": 2},
        "sum": {
            "stages": [
                {"method": "hf", "bases": ["cc-pvdz", "cc-pvtz"], "extrapolation": "exponential", "exponent": 1.6},
                {"method": "ccsd(t)", "minus": "mp2", "bases": ["cc-pvdz"]},
                {"method": "mp2", "bases": ["cc-pvdz", "cc-pvtz"], "density_fitting": True},
            ],
            "frozen_core": False,
            "orbitals": "restricted",
            "stability": True,
            "auxiliary_bases": {"cc-pvtz": {"jk": "cc-pvtz-jkfit", "ri": "cc-pvtz-ri"}},
        },
    },
    "datasets": {
        "water": {
            "molecule": {"smiles": "O", "charge": 0, "multiplicity": 1},
            "sampling": {
                "temperatures": [300, 500.0], "normal_modes": [300], "timestep": 0.5, "friction": 0.02, "stride": 10,
                "equilibration": 100, "seed": 3,
            },
            "selection": "farthest_point", "candidates": 3, "level": "sum", "training_frames": 20, "test_frames": 6,
            "training_forces": True, "test_force_frames": 3, "test_slope_frames": 2, "forces_by": "differences",
            "free_atoms": False, "weak_forces": "gfn2-xtb",
            "labelling": {"frames_per_job": 5, "mem_mb": 900, "runtime": 30, "max_failed": 0.2},
        },
        "given": {
            "geometries": {
                "file": "frames.xyz", "charge": 0, "multiplicity": 1, "blocks": 5, "test_fraction": 0.3, "seed": 1
            },
            "level": "hf", "training_frames": 12, "test_frames": 4, "pool_frames": 5,
        },
        "mine": {"file": "frames.xyz", "test_frames": 8, "seed": 2, "level": "Morse"},
        "others": {
            "file": "frames.xyz", "test_file": "test.xyz", "pool_file": "test.xyz", "weak_forces": "gfn2-xtb"
        },
    },
    "models": {
        "direct": {
            "architecture": "painn", "cutoff": 4.0, "features": 8, "layers": 1, "radial": 4, "dtype": "float64",
            "forces": "direct",
            "training": {
                "steps": 20, "batch_size": 2, "learning_rate": 0.001, "schedule": "plateau", "plateau_patience": 2,
                "plateau_factor": 0.7, "early_stopping": 9, "weight_decay": 0.01, "gradient_clip": 5.0,
                "ema_decay": 0.9, "validate_every": 5, "validation_fraction": 0.25, "mixed_precision": True,
            },
            "resources": {"gpus": 0, "threads": 1, "mem_mb": 2000, "runtime": 60},
        },
        "schnet": {
            "architecture": "schnet", "features": 8, "layers": 1, "radial": 4,
            "atomic_references": {"H": -13.6, "N": -1480, "O": -2036.5},
        },
        "mace": {
            "architecture": "mace", "features": 2, "layers": 1, "radial": 4, "max_ell": 1, "max_L": 0, "correlation": 2
        },
    },
    "losses": {
        "supervised": {"function": "huber", "huber": 0.1, "per": "structure"},
        "weak": {
            "energy": 1.0, "forces": 10.0, "pitc": {"weight": 0.1, "order": "simpson", "anchor": "label"},
            "pisc": {"weight": 0.01, "order": 2, "closing": "loop"},
            "augmentation": {"weight": 0.5, "every": 3, "share": 0.5},
            "displacement": 0.01, "direction": "adversarial", "pool": 0.3, "start": 5, "ramp": 10,
        },
    },
    "sizes": [4, 8],
    "seeds": [0, 7],
    "only": [{"loss": "supervised"}, {"size": 8, "seed": [0, 7]}],
    "exclude": [
        {"dataset": ["water", "mine"], "loss": "weak"}, {"dataset": "given", "model": "mace", "loss": "weak"},
        {"dataset": "given", "model": "direct", "loss": "supervised"},
    ],
    "simulations": {
        "warm": {
            "temperatures": [300, 500], "time": 0.01, "timestep": 0.5, "friction": 0.02, "bond_tolerance": 0.4,
            "seed": 4, "starts": 2, "replicas": 2, "frames": 5, "velocities_every": 2,
        },
        "drift": {"ensemble": "nve", "temperature": 300, "time": 0.01},
    },
}  # fmt: skip

TINY: Config = {
    "experiment": "tiny",
    "datasets": {"mine": {"file": "frames.xyz", "test_frames": 4}},
    "models": {"painn": {"architecture": "painn", "features": 8, "layers": 1}},
    "losses": {"supervised": {}, "weak": {"pitc": {"weight": 0.1}}},
    "sizes": [4],
    "seeds": [0],
}

NUMBERS = [
    0, -1, 1, 2, 3, 7, 30, 300, 1000, 10**6, 2**31, 2**32, 2**63, 2**64, 2**70, 10**40, 0.0, -0.5, 0.5, 1.0, 1.5, 1e-5,
    1e-300, 5e-324, 1e5, 1e300, float("inf"), float("-inf"), float("nan"), 1e-3, 12.5,
]  # fmt: skip
NAMES = [
    "", " ", ".", "..", "../x", "a/b", "/", "x" * 61, "x" * 256, "é" * 130, "ab" * 25, "y" * 20, "-x", "_x", "a b",
    "report.html", "results.csv", "logs", "benchmarks", "datasets", "labels", "README.md", "snakemake.zip", "Logs",
    "{a}", "{{a}}", "<x>", "a\nb", "a\x07b", "\x1b[31mred", "a\u202eb", "a\u0000b", "n4", "seed0", "1", "1e3", "null",
    "~", "%s", "$HOME", "`id`", "weak", "Weak", "painn", "ammonia", "a.", "a+b", "CON", "x" * 60, "\U0001f600" * 2,
]  # fmt: skip
FILES = [
    "frames.xyz", "test.xyz", "absent.xyz", "folder", "pipe", "frames.xyz.gz", "latin.xyz", "utf16.xyz", "{a}.xyz",
    "frames.xyz@0:2", "frames.xyz@:", "-", "", ".", "/", "/dev/null", "/dev/zero", "empty.xyz", "~/frames.xyz", "*.xyz",
    "frames.xy?", "<x>.xyz", " frames.xyz", "frames.xyz ", "s3://bucket/frames.xyz", "./frames.xyz", "a//frames.xyz",
    "x" * 300, "/".join(["x" * 50] * 30), "fra\nmes.xyz", "fra\0mes.xyz", "config.yaml",
]  # fmt: skip
WORDS = [
    "yes", "no", "on", "true", "1", "0x10", "1e-3", "nan", "300", "2026-01-01", "gauss-legendre", "simpson", "label",
    "hf", "dft", "mp2", "ccsd(t)", "b3lyp", "wb97x-v", "1e99*b88,", "sto-3g", "cc-pvdz", "def2-tzvp", "/etc/passwd",
    "cc-pvdz@3s2p", "gth-szv", "dft-x", "painn", "schnet", "mace", "float64", "NH3", "H2O", "C", "[OH-]", "O", "C(C",
    "[O][O]", "C" * 60, "ccsdt-cbs", "demo", "sphere", "farthest_point", "plateau", "Hartree", "gfn2-xtb", "x" * 5000,
    "\x07",
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [None], {"": 1}, {"a": 1}, [1, 2, 3], [300], ["weak"], {1: 2}]


def world(folder: Path) -> None:
    """Put into a folder what configs of the fuzzer name."""
    write_frames(folder / "frames.xyz", morse_frames("H2O", 30) + morse_frames("H2O", 10, seed=1, forces=True))
    write_frames(folder / "test.xyz", morse_frames("H2O", 3, seed=2, forces=True))
    text = (folder / "frames.xyz").read_text()
    (folder / "frames.xyz.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "latin.xyz").write_bytes(text.replace("REF_energy", "\xe9").encode("latin-1"))
    (folder / "utf16.xyz").write_bytes(text.encode("utf-16"))
    (folder / "empty.xyz").write_text("")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")


def bases() -> list[Config]:
    """Return the configs that others are made of."""
    shipped = [ROOT / "config.yaml", *sorted((ROOT / "workflow" / "experiments").glob("*.yaml"))]
    loaded = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in shipped]
    for config in loaded:
        for dataset in config["datasets"].values():
            if "file" in dataset:  # the user's frames, which we do not ship
                dataset |= {"file": "frames.xyz", "test_frames": 4}
                config["sizes"] = [10, 20]
    return [*loaded, FULL, FULL, TINY]


def configs(seed: int, count: int) -> Iterator[bytes]:
    """Return so many config files, of a seed always the same, and the first ones of a longer series, too."""
    originals = bases()
    for number in range(count):
        rng = random.Random(f"{seed}.{number}")
        config = copy.deepcopy(rng.choice(originals))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            rng.choice(MUTATIONS)(rng, config)
        yield _written(rng, config)


def _paths(value: Any, above: Keys | None = None) -> Iterator[Keys]:
    above = above or []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield [*above, key]
        yield from _paths(item, [*above, key])


def _parent(config: Config, path: Keys) -> Any:
    for key in path[:-1]:
        config = config[key]
    return config


def _chosen(rng: random.Random, config: Config) -> tuple[Any, Any] | None:
    paths = list(_paths(config))
    if not paths:
        return None
    path = rng.choice(paths)
    return _parent(config, path), path[-1]


def _hostile(rng: random.Random, key: Any, value: Any) -> Any:
    """Return something of the kind that stood there, or of another."""
    likely: list[Any] = NUMBERS if isinstance(value, int | float) else WORDS
    if key in ("file", "test_file"):
        likely = FILES
    if key == "experiment":
        likely = NAMES
    return copy.deepcopy(rng.choice(likely if rng.random() < 0.7 else [*NUMBERS, *WORDS, *OTHERS, *NAMES]))


def _replace(rng: random.Random, config: Config) -> None:
    if place := _chosen(rng, config):
        section, key = place
        section[key] = _hostile(rng, key, section[key])


def _scale(rng: random.Random, config: Config) -> None:
    numbers = [
        (section, path[-1])
        for path in _paths(config)
        if isinstance((section := _parent(config, path))[path[-1]], int | float)
    ]
    if numbers:
        section, key = rng.choice(numbers)
        factors: list[Callable[[Any], Any]] = [
            lambda x: x * 10 ** rng.randint(1, 12), lambda x: x / 10 ** rng.randint(1, 12), lambda x: -x, str, float,
            lambda x: [x], lambda x: x + 1, lambda x: x - 1, lambda x: x * 3,
        ]  # fmt: skip
        section[key] = rng.choice(factors)(section[key])


def _drop(rng: random.Random, config: Config) -> None:
    if place := _chosen(rng, config):
        del place[0][place[1]]


def _rename(rng: random.Random, config: Config) -> None:
    named = [name for name in ("datasets", "models", "losses", "levels") if isinstance(config.get(name), dict)]
    section = config[rng.choice(named)] if named and rng.random() < 0.7 else config
    if rng.random() < 0.2 and (place := _chosen(rng, config)) and isinstance(place[0], dict):
        section = place[0]
    if section:
        key = rng.choice(list(section))
        new = rng.choice(NAMES) if rng.random() < 0.7 else rng.choice([1, None, True, 1.5, f"{key}s", str(key)[:-1]])
        items = [(new if name == key else name, value) for name, value in section.items()]
        section.clear()
        section.update(items)


def _add(rng: random.Random, config: Config) -> None:
    sections = [config, *(s for path in _paths(config) if isinstance(s := _parent(config, path), dict))]
    extra = rng.choice([name for path in _paths(FULL) if isinstance(name := path[-1], str)] + NAMES)
    rng.choice(sections)[extra] = rng.choice(NUMBERS + WORDS + OTHERS)


def _move(rng: random.Random, config: Config) -> None:
    first, second = _chosen(rng, config), _chosen(rng, config)
    if first and second:
        first[0][first[1]] = copy.deepcopy(second[0][second[1]])


def _other_file(rng: random.Random, config: Config) -> None:
    sections = [s for path in _paths(config) if isinstance(s := _parent(config, path), dict) and "file" in s]
    if sections:
        rng.choice(sections)["file"] = rng.choice(FILES)


def _many(rng: random.Random, config: Config) -> None:
    lists = [key for key in ("sizes", "seeds", "only") if isinstance(config.get(key), list) and config[key]]
    if lists:
        config[rng.choice(lists)] = list(range(2, rng.choice([4, 100, 3000])))


MUTATIONS = [_replace, _replace, _replace, _scale, _scale, _drop, _rename, _add, _move, _many, _other_file]


def _written(rng: random.Random, config: Config) -> bytes:
    text = yaml.dump(
        config,
        Dumper=yaml.CSafeDumper,
        sort_keys=False,
        allow_unicode=rng.random() < 0.5,
        default_flow_style=rng.choice([None, False]),
    )
    if rng.random() < 0.2:
        text = rng.choice(SPELLINGS)(rng, text)
    encoding = rng.choices(["utf-8", "latin-1", "utf-16"], [60, 1, 1])[0]
    return text.encode(encoding, errors="replace")


def _line(rng: random.Random, text: str, edit: Callable[[str], str]) -> str:
    lines = text.splitlines()
    place = rng.randrange(len(lines) or 1)
    return "\n".join(edit(line) if number == place else line for number, line in enumerate(lines)) + "\n"


def _bomb(rng: random.Random, text: str) -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, rng.choice([2, 12]))]
    return text + "\n".join(lines) + "\n"


SPELLINGS: list[Callable[[random.Random, str], str]] = [
    lambda rng, text: _line(rng, text, lambda line: f"{line}\n{line}"),
    lambda rng, text: _line(rng, text, lambda line: line[: rng.randrange(len(line) + 1)]),
    lambda rng, text: _line(rng, text, lambda line: f" {line}"),
    lambda rng, text: _line(rng, text, lambda line: line.replace("  ", "\t", 1)),
    lambda rng, text: _line(rng, text, lambda line: line.replace(": ", rng.choice([":", ": !!str ", ": !x ", ": & "]))),
    lambda rng, text: _line(
        rng, text, lambda line: f"{line.partition(':')[0]}: {rng.choice(['9' * 5000, '0x1', '010', '1:30', '1_000'])}"
    ),
    lambda rng, text: _line(rng, text, lambda line: f"{line.partition(':')[0]}: {rng.choice(['1e-3', '2e3', 'yes'])}"),
    lambda rng, text: _line(rng, text, lambda line: f"{line.partition(':')[0]}: 2026-01-01"),
    lambda rng, text: _line(rng, text, lambda line: f"{line.partition(':')[0]}: {'[' * 5000}{']' * 5000}"),
    lambda rng, text: _line(rng, text, lambda line: f'{line.partition(":")[0]}: "\\x07\\e[2J\\0"'),
    lambda rng, text: text[: rng.randrange(len(text) + 1)],
    lambda rng, text: text + text,
    lambda rng, text: text + f"---\n{text}",
    lambda rng, text: f"__use_yte__: {rng.choice(['true', 'false'])}\n{text}",
    lambda rng, text: text.replace("e", rng.choice(["\x00", "\x07", "\x85", "\u2028", "\ufeff", "\t"]), 1),
    _bomb,
    lambda rng, text: "",
    lambda rng, text: rng.choice(["- 1\n", "5\n", "null\n", "text\n", "{}\n", "a: &a [*a]\n", "? [a]\n: 1\n", "\xff"]),
]
