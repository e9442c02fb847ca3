"""The adapters that come with the package, for the embedded model. Needs no torch to say whether they fit.

They are folders like any other adapter's, so that a backend takes them in the same way:
``load_backend().adapted(resolve("shipped", "policy"))``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from mesa_meanfield.backends.load import split_dtype
from mesa_meanfield.errors import BackendError
from mesa_meanfield.ibtune.calibration import read_calibrations

Kind = Literal["policy", "summarizer"]

SHIPPED = "shipped"
"""What stands for the path of one of them."""
FOLDER = Path(__file__).parent / "adapters" / "smollm2-135m-instruct"
"""Where they lie, each in a folder of its kind's name; a development checkout may have none."""
WEIGHTS = "adapter_model.safetensors"

_EMBEDDED = ("embedded", "local")
_NEEDED = ("adapter_config.json", WEIGHTS)


def resolve(adapter: str, kind: Kind) -> str:
    """The path of the shipped adapter where ``shipped`` is given, else what is given.

    Args:
        adapter: ``shipped``, or a path, which is not looked at.
        kind: Which of the two is meant.

    Raises:
        BackendError: None is shipped.
    """
    if adapter != SHIPPED:
        return adapter
    folder = FOLDER / kind
    if lacking := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise BackendError(
            f"{folder}: no adapter is shipped there ({lacking[0]} is missing); take an adapter's path, or none"
        )
    return str(folder)


def fits(kind: Kind, spec: str, dimension: str, labels: Collection[str]) -> bool:
    """Whether an adapter is shipped that was made for this: what is used where nothing else is said.

    It must have been trained on this model. A policy has learnt to choose among certain labels, those that
    its temperature was fitted for; a summarizer writes on any topic.

    Args:
        kind: The policy's adapter or the summarizer's.
        spec: The model, as `load_backend` takes it.
        dimension: What the agents' labels are about.
        labels: All of them, in any order.

    Raises:
        DataError: The shipped calibration cannot be read.
    """
    if split_dtype(spec)[0] not in _EMBEDDED:
        return False
    try:
        folder = Path(resolve(SHIPPED, kind))
    except BackendError:
        return False
    return kind == "summarizer" or any(
        one.dimension == dimension and set(one.labels) == set(labels) for one in read_calibrations(folder)
    )
