"""What belongs to this user alone: notes and pickled results decide what is run, so nobody else may write them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


class NotOurs(RuntimeError):
    """A folder or file that someone else may have made; the text is one line."""


def make_folders(*folders: Path) -> None:
    """Make folders that their owner alone can enter; close those of ours that others could.

    Args:
        folders: the outer ones first.

    Raises:
        NotOurs: one is a link, no folder, or belongs to another user.
    """
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            raise NotOurs(f"{folder}: no folder; name another by --submitit-folder") from None
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode):
            raise NotOurs(f"{folder}: a link; take it away, or name a folder by --submitit-folder")
        if status.st_uid != os.geteuid():
            raise NotOurs(f"{folder}: belongs to user {status.st_uid}; name one of your own by --submitit-folder")
        if status.st_mode & 0o077:
            folder.chmod(0o700)


def is_own_file(path: Path) -> bool:
    """Whether a path is a file, no link, of this user."""
    return _is_own(path, stat.S_ISREG)


def is_own_folder(path: Path) -> bool:
    """Whether a path is a folder, no link, of this user."""
    return _is_own(path, stat.S_ISDIR)


def _is_own(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return kind(status.st_mode) and status.st_uid == os.geteuid()
