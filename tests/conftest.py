"""What all tests share: one Spark session, and no hub."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Spark's workers import the stages that tests define from the tests' own folders.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [*map(str, Path(__file__).parent.glob("[a-z]*/")), os.environ.get("PYTHONPATH", "")]
)

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:  # noqa: F821
    """One local session for the whole suite, with the settings that start fastest."""
    from corpus.session import spark_session

    session = spark_session(
        "tests",
        {
            "spark.master": "local[2]",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.driver.memory": "1g",
            "spark.sql.shuffle.partitions": "2",
            "spark.ui.enabled": "false",
            "spark.sql.adaptive.enabled": "false",
            # Small frames: compiling a query takes longer than interpreting it.
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        },
    )
    yield session
    session.stop()
