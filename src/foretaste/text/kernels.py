"""The decorator of all compiled kernels: numba's, with a cache on disk that processes share and a scan can do without."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

_PACKAGE = __name__.partition(".")[0]
_numba: Any = numba  # whose types do not tell of all options


def kernel(function: Any) -> Any:
    """Compile a function of arrays and numbers at its first call, without Python's lock, and keep it on disk.

    Where there is no folder that numba may write to, every process compiles anew what was not compiled beside the source, as
    root does who installs the package.
    """
    compiled: Any = _numba.njit(nogil=True, no_cfunc_wrapper=True)(function)  # no kernel is the argument of another
    if isinstance(compiled, Dispatcher):  # a plain function under NUMBA_DISABLE_JIT
        setattr(compiled, "_cache", _Cache(function))  # noqa: B010 - not among its types
    return compiled


class _BesideSource:
    """The last of the places where numba looks for a folder: it need not be one to write to."""

    def __init__(self, function: FunctionType, path: str) -> None:
        self.folder, self.line = _beside(path), function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: FunctionType, path: str) -> _BesideSource:
        return cls(function, path)

    def get_cache_path(self) -> str:
        return self.folder

    def get_disambiguator(self) -> str:
        return str(self.line)

    def get_source_stamp(self) -> str:
        return ""  # see _digest


class _Impl(CompileResultCacheImpl):
    _locator_classes: Any = (*CompileResultCacheImpl._locator_classes, _BesideSource)


class _Cache(FunctionCache):
    """A file per function, types and processor, which says what it was compiled from.

    numba's own looks at the file of the function alone, while what it calls in other files is compiled into it; its index
    and its numbered files, which two processes may write at a time, can come to name each other's code; it reads only where
    it may write, so that a user's process does not see what root compiled; and where it cannot write, the call fails.
    """

    _impl_class = _Impl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        name = self._name_of(sig, target_context.codegen())
        # A folder named for it is the only one: so it can be empty.
        beside = None if _numba.config.CACHE_DIR else _beside(self._py_func.__code__.co_filename)
        for folder in dict.fromkeys((self.cache_path, beside or self.cache_path)):
            with suppress(OSError, EOFError, pickle.UnpicklingError):
                sources, code = pickle.loads(Path(folder, name).read_bytes())
                if sources == self._sources():
                    return self._impl.rebuild(target_context, pickle.loads(code))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.check_cachable(data):
            return
        path = Path(self.cache_path, self._name_of(sig, data.codegen))
        part = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # read-only, or full, or gone
            try:
                part.write_bytes(pickle.dumps((self._sources(), dumps(self._impl.reduce(data)))))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _name_of(self, sig: Any, codegen: Any) -> str:
        of = hashlib.sha256(repr((sig, codegen.magic_tuple())).encode()).hexdigest()[:16]
        return f"{self._impl.filename_base}.{of}.nbc"

    def _sources(self) -> tuple[str, str]:
        return numba.__version__, _digest(self._py_func)


def _beside(path: str) -> str:
    return str(Path(path).parent / "__pycache__")


_digests: dict[FunctionType, str] = {}


def _digest(function: FunctionType) -> str:
    """Of the file of a function, of its global values, and of the functions of this package that it calls."""
    if function not in _digests:
        _digests[function] = ""  # while it is made, for a function that comes back to itself
        digest = hashlib.sha256(_source(function.__module__))
        for name in sorted(_names(function.__code__) & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, Dispatcher) and value.py_func.__module__.startswith(_PACKAGE):
                value = _digest(value.py_func)
            elif isinstance(value, np.ndarray):
                value = value.dtype.str, value.shape, value.tobytes()
            elif str(module := getattr(value, "__module__", getattr(value, "__name__", ""))).startswith(_PACKAGE):
                value = _source(module)  # the object's, or the object
            elif not isinstance(value, int | float | str | tuple | np.generic):
                continue  # numba's and numpy's: the version says it
            digest.update(f"{name}={value!r};".encode())
        _digests[function] = digest.hexdigest()
    return _digests[function]


def _names(code: CodeType) -> set[str]:
    inner = (_names(c) for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*inner)


def _source(module: str) -> bytes:
    return Path(str(sys.modules[module].__file__)).read_bytes()
