"""Model files: safetensors, with all that a reader needs to rebuild the potential as JSON in the header.

A file is judged before it is believed: what a header asks for is compared with the tensors that the file holds before
anything of that size is made, so that a refusal costs no more than reading the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ase.data import atomic_numbers
from pydantic import Field, JsonValue, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from piwsl.config import Architecture, Section, level_checks, parse_level, parse_model, parse_section
from piwsl.config.section import Name, one_line
from piwsl.errors import PiwslError
from piwsl.files import write_atomically
from piwsl.models.baseline import Baseline
from piwsl.models.committee import Committee
from piwsl.models.devices import usable_device
from piwsl.models.pair import PairPotential, places_of
from piwsl.models.potential import Potential
from piwsl.models.predictor import Predictor
from piwsl.structures.labels import RESERVED

VERSION = 4
FORMAT = f"piwsl-potential-{VERSION}"
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å"}
DAMAGED = "the file was changed or damaged: take another copy, or train the model again"
# Lists within lists: what the header of any training needs, and less than what Python reads by recursion.
DEEPEST = 20
LONGEST_MESSAGE = 300


class BaselineHeader(Section):
    """What a model file says of its baseline."""

    name: Name = Field(description="What datasets call its labels.")
    level: dict[str, JsonValue]
    scale: float = Field(1.0, ge=-100, le=100, description="What its energies and forces are multiplied by.")

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"'{name}' is what labels are called")
        return name


class Header(Section):
    """What a model file says of its weights."""

    format: str
    config: dict[str, JsonValue] = Field(description="Architecture and training.")
    elements: list[str] = Field(min_length=1, description="Chemical symbols that the model was trained on.")
    neighbours: float = Field(gt=0, allow_inf_nan=False, description="Average number of neighbours within the cutoff.")
    units: dict[str, str]
    conservative: bool = Field(description="Whether forces are the gradient of the energy.")
    pair_potential: bool = Field(description="Whether a pair potential is part of it.")
    baseline: BaselineHeader | None = Field(
        None, description="The level that it corrects, and the name of it where it was trained."
    )
    provenance: dict[str, JsonValue] = Field(description="What it was trained on and how.")
    versions: dict[str, str]

    @field_validator("config")
    @classmethod
    def _architecture_is_named(cls, config: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if not isinstance(config.get("architecture"), str):
            raise ValueError("names no architecture")
        return config

    @field_validator("elements")
    @classmethod
    def _elements_are_known_and_named_once(cls, symbols: list[str]) -> list[str]:
        for symbol in symbols:
            if atomic_numbers.get(symbol, 0) < 1:
                raise ValueError(f"no element {symbol!r}")
            if symbols.count(symbol) > 1:
                raise ValueError(f"{symbol} stands there more than once")
        return symbols

    @field_validator("units")
    @classmethod
    def _units_are_ours(cls, units: dict[str, str]) -> dict[str, str]:
        if units != UNITS:
            raise ValueError(f"found {units}, expected {UNITS}")
        return units


class Stored(NamedTuple):
    """A tensor as a file describes it."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


# As safetensors writes them.
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}


def save_model(path: Path, potential: Predictor, provenance: dict[str, Any]) -> None:
    """Write a potential as safetensors, atomically; the same potential gives the same bytes.

    Args:
        path: the file to write.
        potential: the potential, or a committee.
        provenance: what it was trained on and how (run, hash of the data, ...), plain values.
    """
    header = {
        "format": FORMAT,
        "config": potential.config.plain(),
        "elements": potential.elements(),
        "neighbours": potential.neighbours,
        "units": UNITS,
        "conservative": potential.conservative,
        "pair_potential": potential.has_pair_potential,
        "provenance": provenance,
        "versions": {"piwsl": version("piwsl"), "torch": version("torch")},
    }
    if potential.baseline is not None:
        corrected = potential.baseline
        header["baseline"] = {"name": corrected.name, "level": corrected.level.plain(), "scale": corrected.scale}
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in header.items()}
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in potential.state_dict().items()}
    content = _with_sorted_header(save(tensors, metadata))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _with_sorted_header(content: bytes) -> bytes:
    """Return a safetensors file with the keys of its header in order; the library writes metadata in any order.

    The format: eight bytes of length (little endian), JSON filled with spaces to a multiple of eight, data.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8:start]), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a model file: the keys of `Header`, in their order.

    Raises:
        PiwslError: no such file, not a model of this project, or a header that is not right.
    """
    with _refusing(path), _opened(path) as file:
        return _header(file).model_dump(mode="json")


def load_model(path: Path | str, device: str = "cpu") -> Predictor:
    """Load a potential, or a committee, for use, its weights fixed; nothing is unpickled.

    A baseline that is a pickle of mace-torch is opened where the environment names its hash, and refused elsewhere.

    Args:
        path: a file that `save_model` wrote.
        device: where torch shall put it: cpu, cuda or cuda:N.

    Raises:
        PiwslError: no such device, no such file, not a model of this project, or weights that do not fit their header.
    """
    path = Path(path)
    target = usable_device(device)
    with _refusing(path), _opened(path) as file:
        header = _header(file)
        stored = _stored(file)
        potential = _predictor(header, stored, path.parent)
        # Copies: the library's tensors are windows into the file, which may be overwritten.
        potential.load_state_dict({key: file.get_tensor(key).clone() for key in stored}, assign=True)
        for prefix, member in _members(potential).items():
            _check_values(member, header, prefix)
    return potential.to(target).eval().requires_grad_(False)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Name the file in errors, and keep what a stranger wrote there from filling the terminal."""
    try:
        yield
    except PiwslError as error:
        raise PiwslError(f"{path}: {one_line(str(error), LONGEST_MESSAGE)}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; the library checks lengths and offsets against the size of the file."""
    if not path.exists():
        raise PiwslError("no such file")
    if not path.is_file():
        raise PiwslError("not a file")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise PiwslError(
            f"not a model file of piwsl, or a damaged one ({error}); take another copy, or, where the workflow "
            "made it, delete it, and it is made again"
        ) from None
    with file:
        yield file


def _header(file: Any) -> Header:
    try:
        given = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (ValueError, RecursionError) as error:
        raise PiwslError(f"not a model file of piwsl (its header is no JSON: {error})") from None
    _check_format(given.get("format"))
    if _deeper(given, DEEPEST):
        raise PiwslError(f"its header nests more than {DEEPEST} levels; {DAMAGED}")
    return parse_section(Header, given, "header")


def _check_format(found: Any) -> None:
    if found == FORMAT:
        return
    number = re.fullmatch(r"piwsl-potential-([0-9]{1,9})", found) if isinstance(found, str) else None
    if number is None:
        raise PiwslError(f"not a model file of piwsl; found format {found!r}, expected {FORMAT!r}")
    if int(number[1]) > VERSION:
        raise PiwslError(f"written by a newer piwsl (format {found}, this one reads {FORMAT}); update piwsl")
    raise PiwslError(
        f"written by an older piwsl (format {found}, this one reads {FORMAT}); train the model again, or use "
        "the piwsl that wrote it"
    )


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and mappings are nested deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    return any(_deeper(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value))


def _stored(file: Any) -> dict[str, Stored]:
    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    return {key: Stored(tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}


def _predictor(header: Header, stored: dict[str, Stored], folder: Path) -> Predictor:
    """Build the potential, or the committee, of a header, of which all tensors fit the file, which lies in a folder."""
    config = parse_model(header.config, "config")
    predictor: Predictor
    if config.members == 1:
        predictor = _potential(config, header, stored)
    else:
        of_members = _by_member(config.members, stored)
        one = config.model_copy(update={"members": 1})
        predictor = Committee([_potential(one, header, own, prefix) for prefix, own in of_members.items()])
    predictor.baseline = _baseline(config, header, folder)
    return predictor


def _members(potential: Predictor) -> dict[str, Potential]:
    """Return the potentials of a file by what the names of their tensors begin with."""
    if isinstance(potential, Committee):
        return {f"members.{number}.": member for number, member in enumerate(potential.potentials)}
    assert isinstance(potential, Potential)
    return {"": potential}


def _by_member(members: int, stored: dict[str, Stored]) -> dict[str, dict[str, Stored]]:
    """Return the tensors of each member of a committee by what their names begin with; another number is refused."""
    found: dict[str, dict[str, Stored]] = {f"members.{number}.": {} for number in range(members)}
    for key, tensor in stored.items():
        prefix = next((prefix for prefix in found if key.startswith(prefix)), None)
        if prefix is None:
            raise PiwslError(f"its weights do not fit its config: {key}: members: {members} has none such; {DAMAGED}")
        found[prefix][key.removeprefix(prefix)] = tensor
    for prefix, own in found.items():
        if not own:
            raise PiwslError(
                f"its weights do not fit its config: members: {members}, and {prefix}* is not there; {DAMAGED}"
            )
    return found


def _potential(config: Architecture, header: Header, stored: dict[str, Stored], prefix: str = "") -> Potential:
    """Build a potential of which all tensors fit the file, where a prefix stands before their names.

    Where nothing is known of its size, it is built without values first: tensors of the network that no file holds have
    theirs from being built with them.
    """
    _check_size(config, stored)
    if not config.bounded:
        _check_fit(_built(config, header, stored, "meta"), header, stored, prefix)
    potential = _built(config, header, stored, "cpu")
    _check_fit(potential, header, stored, prefix)
    return potential


def _built(config: Architecture, header: Header, stored: dict[str, Stored], device: str) -> Potential:
    references = {atomic_numbers[symbol]: 0.0 for symbol in header.elements}
    prefix = "learned.network."
    shapes = {key.removeprefix(prefix): each.shape for key, each in stored.items() if key.startswith(prefix)}
    with torch.device(device):
        try:
            network = config.network_of_file(sorted(references), header.neighbours, shapes)
            potential = Potential(config, 1.0, references, header.neighbours, network)
            if header.pair_potential:
                potential.pair = PairPotential(config.cutoff, sorted(references))
            return potential
        except PiwslError:
            raise
        except Exception as error:  # e3nn refuses in many kinds what it cannot build, most of them without a message
            raise PiwslError(f"no network can be built of its config ({type(error).__name__}: {error})") from None


def _baseline(config: Architecture, header: Header, folder: Path) -> Baseline | None:
    """Return what a header says is corrected, which is what its config names, and can be computed here."""
    said = header.baseline
    if (found := None if said is None else said.name) != config.baseline:
        raise PiwslError(f"header: baseline: {found or 'none'} does not fit its config ({config.baseline}); {DAMAGED}")
    if said is None:
        return None
    level = parse_level(said.level, "header: baseline.level")
    try:
        level = level_checks.beside(level, folder)
    except PiwslError as error:
        raise PiwslError(f"baseline '{said.name}': {error}") from None
    baseline = Baseline(said.name, level, scale=said.scale)
    baseline.check(set(header.elements))
    return baseline


def _check_size(config: Architecture, stored: dict[str, Stored]) -> None:
    """Refuse a config whose network has more weights than the file, before it is built."""
    numbers = sum(tensor.values for tensor in stored.values())
    key = config.too_large_for(len(stored), numbers)
    if key is not None:
        raise PiwslError(
            f"its weights do not fit its config: {key}: {getattr(config, key)} needs more than the "
            f"{len(stored)} tensors with {numbers} numbers of the file; {DAMAGED}"
        )


def _check_fit(potential: Potential, header: Header, stored: dict[str, Stored], prefix: str) -> None:
    """Compare names, shapes and precision of the tensors with what the config makes of them."""
    expected = {
        key: Stored(tuple(tensor.shape), DTYPE_NAMES[tensor.dtype]) for key, tensor in potential.state_dict().items()
    }
    for key in sorted(expected.keys() | stored.keys()):
        held, needed = stored.get(key), expected.get(key)
        if held != needed:
            raise PiwslError(
                f"its weights do not fit its config: {prefix}{key}: found {held or 'none'}, "
                f"expected {needed or 'none'}; {DAMAGED}"
            )
    if potential.conservative != header.conservative:
        raise PiwslError(f"header: conservative: {header.conservative} does not fit its config; {DAMAGED}")


def _check_values(potential: Potential, header: Header, prefix: str) -> None:
    """Refuse weights that are no numbers, which would give energies that are none."""
    if potential.elements() != sorted(header.elements, key=atomic_numbers.__getitem__):
        raise PiwslError(f"its reference energies are not those of {', '.join(header.elements)}; {DAMAGED}")
    if potential.pair is not None:
        numbers = sorted(atomic_numbers[symbol] for symbol in header.elements)
        if not torch.equal(potential.pair.places, places_of(numbers)):
            raise PiwslError(f"its pair potential is not of {', '.join(header.elements)}; {DAMAGED}")
    references = potential.references.energies
    for key, tensor in potential.state_dict().items():
        values = references[~references.isnan()] if key == "references.energies" else tensor
        if not torch.isfinite(values).all():
            raise PiwslError(f"{prefix}{key} holds a number that is not finite; {DAMAGED}")
    problem = potential.config.problem_with(potential.learned.network, potential.references.numbers())
    if problem is not None:
        raise PiwslError(f"its weights do not fit its config: {problem}; {DAMAGED}")
