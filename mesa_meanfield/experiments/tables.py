"""Tidy tables as files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mesa_meanfield.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_ENGINES = ("pyarrow", "fastparquet")


def parquet_can_be_written() -> bool:
    """Whether anything is installed that pandas can write Parquet with."""
    return any(importlib.util.find_spec(engine) for engine in _ENGINES)


def save(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a tidy table as CSV or Parquet, by the file's suffix; an older file stays until the new one is whole.

    Args:
        frame: Any table of an experiment; its index is not written.
        path: Ends in .csv or .parquet.

    Raises:
        ValueError: It ends in something else.
        DataError: Parquet is asked for and nothing here can write it, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"A table is written as .csv or .parquet, got {path.name!r}")
    if path.suffix == ".parquet" and not parquet_can_be_written():
        raise DataError(f"{path}: Parquet needs pyarrow: pip install 'mesa-meanfield[parquet]'; or write a .csv")
    write = frame.to_csv if path.suffix == ".csv" else frame.to_parquet
    part = path.with_name(f"{path.name}.partial")
    try:
        write(part, index=False)
        part.replace(path)
    except (OSError, TypeError, ValueError) as error:  # a full disk; values that a column cannot hold together
        part.unlink(missing_ok=True)
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: the table cannot be written: {told}") from error
    return path
