"""Hosts that several test files start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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
