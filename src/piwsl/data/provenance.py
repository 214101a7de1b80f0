"""Where the frames of a dataset file come from, as the file itself says it. No date: the same frames make one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version

from piwsl.config import GivenDataset
from piwsl.data.given import GivenFile, Part, source_of
from piwsl.readers import READERS
from piwsl.records import Provenance, ReadFile
from piwsl.structures.labels import REFERENCE


def of_computed(level: str | None) -> Provenance:
    """Return that of frames which are labelled here.

    Args:
        level: in words, where it is known.
    """
    return Provenance(level=level, versions=_versions([]))


def of_given(dataset: GivenDataset, parts: Mapping[str, Part[GivenFile]], levels: Iterable[str]) -> Provenance:
    """Return that of a user's frames.

    Args:
        dataset: the section that names the files.
        parts: those that the dataset file has, of files that were surveyed.
        levels: the given ones whose labels it has.

    Raises:
        PiwslError: a file cannot be read, or is not what it was.
    """
    files = []
    for file in {part.file.path: part.file for part in parts.values()}.values():
        source = source_of(dataset, file.path, file.stamp)
        given = dataset.given_labels_of(file.path)
        names = {REFERENCE: dataset.labels_of(file.path), **{level: given[level] for level in levels}}
        files.append(
            ReadFile(
                file=str(source.path),
                sha256=source.sha256,
                format=source.form,
                parts=[name for name, part in parts.items() if part.file.path == file.path],
                labels={level: asdict(each) for level, each in names.items()},
            )
        )
    formats = [file.format for file in files]
    return Provenance(catalogue=dataset.catalogue, level=dataset.level, files=files, versions=_versions(formats))


def _versions(formats: list[str]) -> dict[str, str]:
    """Return the version of piwsl, and those of the distributions whose readers were asked."""
    brought = {kind: source for name in formats for kind, source in READERS.named_source(name).items()}
    return {"piwsl": version("piwsl"), **brought}
