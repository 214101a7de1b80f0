"""Run psi4 on every input: `write` stores the energies, `check` compares them with the stored ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from inputs import CASES, text

STORED = Path(__file__).parent / "energies.json"
TOLERANCE_HARTREE = 1e-7


def psi4_energy(given: str) -> float:
    """Run psi4 and return the energy that the input prints, Eh."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "input.dat").write_text(given)
        command = ["psi4", "-n", "1", "-i", "input.dat", "-o", "output.dat", "-s", folder]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        output = (Path(folder) / "output.dat").read_text()
    found = re.search(r"^TOTAL (\S+)$", output, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"psi4 printed no energy for\n{given}\n{output[-2000:]}")
    return float(found[1])


def main(task: str) -> int:
    """Write or check; return the number of disagreements."""
    if shutil.which("psi4") is None:
        raise SystemExit("error: psi4 is not on PATH; on Debian: apt-get install psi4")
    version = subprocess.run(["psi4", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    stored = json.loads(STORED.read_text()) if STORED.exists() else []
    wrong = 0
    for number, one in enumerate(CASES):
        case = one._asdict()
        known = next((row for row in stored if case.items() <= row.items()), None)
        given = text(one)
        if task == "write" and known is not None and known["input"] == given:
            continue
        energy = psi4_energy(given)
        if task == "write":
            stored = [row for row in stored if row is not known]
            stored.append(case | {"energy_Eh": energy, "psi4": version, "input": given})
            STORED.write_text(json.dumps(stored, indent=1) + "\n")
            verdict = "stored"
        elif known is None or known["input"] != given:
            verdict = "NOT STORED: run `make write-psi4`"
            wrong += 1
        else:
            difference = energy - known["energy_Eh"]
            verdict = f"{difference:+.1e} Eh from the stored energy"
            if abs(difference) > TOLERANCE_HARTREE:
                verdict += "  DISAGREES"
                wrong += 1
        print(f"{number + 1}/{len(CASES)} {', '.join(one)}: {energy:.9f} Eh, {verdict}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1])))
