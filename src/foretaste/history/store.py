"""Where a state lies, and how it is replaced: as a whole, and only where it is still the one that was read."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from foretaste.errors import InputError, StateError
from foretaste.history.file import digest_of, open_file
from foretaste.reading.stores import ChangedError, conditional_put, open_address, steady


@dataclass(frozen=True)
class Store:
    """Where a state lies: a local path, or an address such as ``s3://bucket/history.state``."""

    path: str
    filesystem: pa.fs.FileSystem | None = None

    @cached_property
    def _place(self) -> tuple[pa.fs.FileSystem, str]:
        if self.filesystem is not None:
            return steady(self.filesystem), self.path.split("://", 1)[-1]
        if "://" not in self.path:
            return pa.fs.LocalFileSystem(), str(Path(self.path).absolute())
        try:
            return open_address(self.path)
        except InputError as e:
            raise StateError(f"cannot open the state: {e}") from e

    def read(self) -> bytes | None:
        """The bytes of the state, ``None`` where there is none.

        Raises:
            StateError: if they cannot be read.
        """
        filesystem, path = self._place
        try:
            kind = filesystem.get_file_info(path).type
            if kind == pa.fs.FileType.NotFound:
                return None
            if kind == pa.fs.FileType.Directory:
                raise StateError(f"the state {self.path} is a folder; name a file, such as {self.path}/history.state")
            with filesystem.open_input_stream(path, compression=None) as stream:
                read: bytes = stream.read()
                return read
        except OSError as e:
            raise StateError(f"cannot read the state {self.path}: {e}; check the path and the permissions") from e

    def replace(self, content: bytes, expected: str | None) -> None:
        """Write a state in place of the one with the digest ``expected`` (``None``: of none), as a whole or not at all.

        On a local disk two writers exclude each other by a lock on the folder. An object store replaces an object as a
        whole, and S3, Azure and Google Cloud Storage only where nobody wrote it meanwhile; which ones do so, and what
        they need for it, says :func:`~foretaste.reading.stores.conditional_put`.

        Raises:
            StateError: if another one lies there now, or it cannot be written.
        """
        filesystem, path = self._place
        try:
            if isinstance(filesystem, pa.fs.LocalFileSystem):
                self._replace_file(Path(path), content, expected)
            else:
                put = conditional_put(filesystem, path, self.path)
                self._refuse_changed(expected)
                put(content)
        except ChangedError as e:
            raise self._changed() from e
        except OSError as e:
            raise StateError(f"cannot write the state {self.path}: {e}; check the folder and the permissions") from e

    def _replace_file(self, path: Path, content: bytes, expected: str | None) -> None:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._refuse_changed(expected)
            handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            try:
                if path.exists():
                    shutil.copymode(path, draft)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
            os.fsync(folder)
        finally:
            os.close(folder)

    def _refuse_changed(self, expected: str | None) -> None:
        now = self.read()
        digest = None if now is None else digest_of(open_file(now, self.path)[0])
        if digest != expected:
            raise self._changed()

    def _changed(self) -> StateError:
        return StateError(
            f"the state {self.path} was changed by another scan meanwhile, so this verdict did not count what that "
            "scan accepted; scan this batch again"
        )
