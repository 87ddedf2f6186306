"""numba's compiler, with a cache where there is a place for one."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile on first use and keep the machine code on disk if that is possible.

    numba finds no place for its cache where the code runs from a zip or where neither the package
    nor the user's cache folder is writable; then each process compiles for itself.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)  # type: ignore[return-value]
    except RuntimeError:
        return numba.njit(nogil=True)(function)  # type: ignore[return-value]
