"""Which frames of a user's file are for training, which for the test, and which belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from piwsl.config.section import InputFile, Section


class GroupedBy(Section):
    """What is told apart by what frames say under a name, by what they are, or by where in their file they stand."""

    by: str
    key: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Of `by: group`: under which name a frame says its group, such as trajectory.",
    )
    blocks: int | None = Field(
        None, ge=2, le=10_000, description="Of `by: block`: into how many contiguous parts the file is cut."
    )

    @model_validator(mode="after")
    def _key_of_groups(self) -> Self:
        if (self.by == "group") != (self.key is not None):
            raise ValueError("'key' and 'by: group' go together: under which name a frame says its group")
        if (self.by == "block") != (self.blocks is not None):
            raise ValueError("'blocks' and 'by: block' go together: into how many contiguous parts the file is cut")
        return self


class Groups(GroupedBy):
    """What training frames belong to: whoever validates on whole groups has none of them among what is learned from."""

    by: Literal["group", "composition", "size", "block"] = Field(
        "group",
        description="What is a group: `group`, frames that say the same under `key`; `composition`, frames of the same "
        "atoms; `size`, frames of as many atoms; `block`, frames that stand in one of `blocks` contiguous parts of the "
        "file.",
    )


class Split(GroupedBy):
    """How the test frames are told from those for training; by default they are held out one by one, at random."""

    by: Literal["frame", "group", "composition", "size", "block"] = Field(
        "frame",
        description="What is held out as a whole: `group`, frames that say the same under `key`; `composition`, frames "
        "of the same atoms; `size`, the largest molecules, to train on small ones; `block`, contiguous parts of the "
        "file, as of a trajectory, whose neighbouring frames are alike. `test_frames` of them are tested, and what is "
        "left of them is in neither part.",
    )
    test: InputFile | None = Field(
        None,
        description="A file with the positions of the test frames in `file`, from 0, such as rMD17's "
        "index_test_01.csv; in place of test_frames.",
    )
    training: InputFile | None = Field(
        None, description="Likewise of the training frames. Default: all that are not in test."
    )
    published: int | None = Field(
        None,
        ge=1,
        le=100,
        description="In place of these files: the number of a published split of the catalogue's set.",
    )

    stored: InputFile | None = Field(
        None,
        description="In place of all this: the `split.json` that an import of the very same file wrote, with its "
        "frames for training and test.",
    )

    @property
    def files(self) -> list[Path]:
        """The files of positions."""
        return [path for path in (self.training, self.test, self.stored) if path is not None]

    @property
    def is_listed(self) -> bool:
        """Whether files of positions say what is tested."""
        return self.test is not None or self.stored is not None

    @property
    def groups(self) -> Groups | None:
        """What is held out as a whole; None where that is each frame by itself."""
        return None if self.by == "frame" else Groups(by=self.by, key=self.key, blocks=self.blocks)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.published is not None:
            raise ValueError("published: is of a set of the catalogue, which this is not; say test and training")
        if self.files and self.by != "frame":
            raise ValueError(f"by: {self.by}: the files of positions say what is tested; leave one of them out")
        if self.stored is not None and len(self.files) > 1:
            raise ValueError("stored: says what is trained on and tested; leave 'training' and 'test' out")
        if self.training is not None and self.test is None:
            raise ValueError("training: goes with 'test', the positions of the test frames")
        return self
