"""Which linear algebra PySCF computes with. Its wheels bring an OpenBLAS of 2018, which knows no newer processor."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

from piwsl.errors import PiwslError

VARIABLE = "PIWSL_BLAS"
# The value of the variable that leaves PySCF's as it is.
AS_IT_COMES = "pyscf"
# OpenBLAS's own: which processor it takes the machine for.
CORE_TYPE = "OPENBLAS_CORETYPE"
# On what it does not know it falls back to kernels of 2004, a third as fast. Those of Haswell need these two; those of
# 2018 for AVX-512 were withdrawn later for errors, and are no faster.
KERNELS, NEEDED = "Haswell", {"avx2", "fma"}


def load_blas() -> None:
    """Load the library that PySCF will compute with.

    The environment variable PIWSL_BLAS names one (32-bit integers, as `libopenblas.so`), or says `pyscf`, which leaves
    that of PySCF's wheel as it comes. Without it the library of the wheel is loaded with the best kernels that it has
    for this machine; it is the same library, so that nothing of what else is loaded changes.

    A library that is named is loaded into the global scope before PySCF; its symbols take the place of those of the
    wheel's.

    Raises:
        PiwslError: the file is no library that can be loaded, or has no matrix product.
    """
    path = os.environ.get(VARIABLE)
    if path and path != AS_IT_COMES:
        _load_in_place(path)
    elif not path and CORE_TYPE not in os.environ and _of_wheel() and _processor_has(NEEDED):
        os.environ[CORE_TYPE] = KERNELS
        try:
            _of_wheel_loaded()
        finally:
            # Other libraries choose for themselves.
            del os.environ[CORE_TYPE]


def _load_in_place(path: str) -> None:
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        library.dgemm_  # noqa: B018  # looking the symbol up is the check
    except (OSError, AttributeError) as error:
        raise PiwslError(f"{VARIABLE}={path}: cannot be used as BLAS ({error}); name a library, or unset it") from None
    # One thread a process; other libraries follow OMP_NUM_THREADS.
    if hasattr(library, "openblas_set_num_threads"):
        library.openblas_set_num_threads(1)


def blas_name() -> str:
    """Return what PySCF computes with, for the records."""
    path = os.environ.get(VARIABLE)
    if path and path != AS_IT_COMES:
        return path
    if not _of_wheel():
        return "of PySCF's environment"
    corename = _of_wheel_loaded().openblas_get_corename
    corename.restype = ctypes.c_char_p
    return f"of PySCF's wheel, {corename().decode()}"


def _of_wheel() -> Path | None:
    """Return the OpenBLAS that PySCF's wheel brings; other builds of PySCF have none."""
    found = find_spec("pyscf")
    folders = found.submodule_search_locations if found else None
    return next((path for folder in folders or () for path in Path(folder, "lib").glob("libopenblas*.so")), None)


def _of_wheel_loaded() -> ctypes.CDLL:
    """Load PySCF's OpenBLAS as PySCF does: as what one of its own libraries needs, which finds it."""
    library = _of_wheel()
    assert library is not None
    ctypes.CDLL(str(library.parent / "libnp_helper.so"))
    return ctypes.CDLL(str(library))


def _processor_has(wanted: set[str]) -> bool:
    """Whether Linux says that the processor has these instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return wanted <= set(flags)
