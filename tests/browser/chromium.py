"""Headless Chromium: found or installed, and what a page has become after its scripts ran."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from debian_packages import install

# Milliseconds, for whatever is waited for: it ends what would not end, and a busy machine does not come near it.
PATIENCE = 300_000
OWN_MACHINE_ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def installed() -> str:
    """Return Chromium's path; install it where we may, skip where we may not, fail where it must be."""
    problem, found = None, next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        problem = install(NAMES[:1], "chromium", "fonts-dejavu-core")
        found = shutil.which(NAMES[0])
    if found is None:
        message = f"Chromium: {problem}; no page was looked at in a browser"
        # Who has no Chromium and may not install it misses one check; CI may not.
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


def dump(address: str, profile: Path) -> str:
    """Return the page as it stands after its scripts ran, the network cut off but for this machine."""
    result = subprocess.run(
        [installed(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         OWN_MACHINE_ALONE, f"--user-data-dir={profile}",
         "--window-size=1200,3000", "--virtual-time-budget=15000", "--dump-dom", address],
        capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    return result.stdout
