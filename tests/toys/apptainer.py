"""Plays Apptainer: its command line as the manual has it, and a root that holds nothing else than what it binds.

An image is here its definition file, of which %environment counts. In it are the system and the Python of this
machine, without the sources that path files (.pth) of that Python name. Bound are what --bind and --home say, the
working folder, /dev, /proc and /sys; not /tmp, which administrators may leave out, too. Each command line is kept
beside this program.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

SYSTEM = ("/bin", "/etc", "/lib", "/lib64", "/opt", "/sbin", "/usr")
# Of the machine's, these do not go into a container.
NOT_PASSED = ("PATH", "LD_LIBRARY_PATH", "HOME")
# The program handles all signals, so that what it starts in a container handles none.
HANDLED = (signal.SIGTERM, signal.SIGUSR2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="apptainer", allow_abbrev=False)
    parser.add_argument("--version", action="version", version="apptainer version 1.4.0")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("-s", "--silent", action="store_true")
    commands = parser.add_subparsers(dest="action", required=True)
    build = commands.add_parser("build", allow_abbrev=False)
    build.add_argument("image", type=Path)
    build.add_argument("definition", type=Path)
    pull = commands.add_parser("pull", allow_abbrev=False)
    pull.add_argument("--name", type=Path, required=True)
    pull.add_argument("address")
    execute = commands.add_parser("exec", allow_abbrev=False)
    execute.add_argument("-B", "--bind", action="append", default=[])
    execute.add_argument("-H", "--home", default=os.environ.get("HOME"))
    execute.add_argument("--nv", action="store_true")
    execute.add_argument("--pwd", default=os.getcwd())
    execute.add_argument("image", type=Path)
    execute.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def fail(words: str) -> None:
    print(f"FATAL:   {words}", file=sys.stderr)
    sys.exit(255)


def binds(specifications: list[str]) -> list[str]:
    """Return bubblewrap's words for `source[:destination[:options]]`, several of them joined by commas."""
    words = []
    for specification in (part for parts in specifications for part in parts.split(",")):
        source, destination, options = (*specification.split(":"), "", "")[:3]
        if not os.path.exists(source):
            fail(f"container creation failed: while mounting {source}: mount source {source} doesn't exist")
        words += ["--ro-bind" if options == "ro" else "--bind", source, destination or source]
    return words


def environment(definition: str) -> dict[str, str]:
    """Return the variables inside: those of the image go before those outside, and an empty one is none."""
    section = definition.partition("%environment\n")[2].partition("\n%")[0]
    exports = (line.strip().removeprefix("export ") for line in section.splitlines() if "export " in line)
    outside = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
    inside = dict(export.split("=", 1) for export in exports)
    path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    return {name: value for name, value in (outside | {"PATH": path} | inside).items() if value}


def execute(told: argparse.Namespace) -> int:
    if not told.image.exists():
        fail(f"could not open image {told.image.absolute()}: no such file or directory")
    home = told.home.split(":")[-1]
    prefixes = {sys.prefix, os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)}
    command = [
        "bwrap", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp",
        *(word for path in (*SYSTEM, *sorted(prefixes)) for word in ("--ro-bind-try", path, path)),
        "--dev-bind", "/dev", "/dev", "--ro-bind", "/proc", "/proc", "--ro-bind", "/sys", "/sys",
        *binds([told.home, os.getcwd(), *told.bind]),
        "--chdir", told.pwd, "env", *(f"--default-signal={number.name[3:]}" for number in HANDLED), *told.command,
    ]  # fmt: skip
    for number in HANDLED:
        signal.signal(number, signal.SIG_IGN)
    variables = environment(told.image.read_text()) | {"HOME": home, "APPTAINER_CONTAINER": str(told.image)}
    code = subprocess.run(command, env=variables).returncode
    return code if code >= 0 else 128 - code


def main() -> None:
    told = arguments()
    with Path(os.environ["APPTAINER_CALLS"]).open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    if told.action == "build":
        shutil.copy(told.definition, told.image)
    elif told.action == "pull":
        told.name.write_text(f"Bootstrap: docker\nFrom: {told.address}\n")
    else:
        sys.exit(execute(told))


if __name__ == "__main__":
    main()
