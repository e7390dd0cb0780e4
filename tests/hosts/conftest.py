"""Hosts that several test files start."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    try:
        session = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    except Exception as e:  # noqa: BLE001 - whatever says that there is no Java
        pytest.skip(f"Spark does not start: {e}")
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server that runs for the tests alone."""
    pytest.importorskip("psycopg2")
    # Not pytest's folder: the server runs as another user, who may not enter that one.
    with tempfile.TemporaryDirectory(prefix="foretaste-pg-") as name, ExitStack() as held:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            url = held.enter_context(_postgres().server(folder / "server"))
        except RuntimeError as e:
            pytest.skip(str(e))
        yield url


def _postgres() -> Any:
    spec = importlib.util.spec_from_file_location("foretaste_tests_postgres", Path(__file__).parent / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
