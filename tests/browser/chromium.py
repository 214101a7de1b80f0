"""Headless Chromium: found or installed, and what a page has become after its scripts ran."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def installed() -> str:
    """Return Chromium's path; install it where we may, skip where we may not, fail where it must be."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, check=True, capture_output=True)
        found = shutil.which("chromium")
    if found is None:
        message = "Chromium is not installed (package chromium); no page was looked at in a browser"
        # Who has no Chromium and may not install it misses one check; CI may not.
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


def dump(address: str, profile: Path) -> str:
    """Return the page as it stands after its scripts ran, the network cut off but for this machine."""
    result = subprocess.run(
        [installed(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
         "--window-size=1200,3000", "--virtual-time-budget=15000", "--dump-dom", address],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return result.stdout
