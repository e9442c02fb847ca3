"""What an evaluation was made by, and the same once more: gone on with, or replayed without its models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mesa_meanfield.backends.calls import CALLS, CallLog
from mesa_meanfield.backends.log import LoggedBackend, fingerprint
from mesa_meanfield.cli.recording import Before
from mesa_meanfield.cli.simulations import Models
from mesa_meanfield.cli.weights import weights_of
from mesa_meanfield.directory import json_text
from mesa_meanfield.errors import DataError
from mesa_meanfield.evaluation.rollouts import FILE
from mesa_meanfield.ibtune.calibration import Calibration
from mesa_meanfield.protocols import Backend

_MADE_BY = ("weights", "adapters", "calibrations")


def made_by(models: Models) -> dict[str, Any]:  # Any: JSON
    """All that belongs to the models beside their names: hashes, and temperatures by where they were."""
    return {
        "weights": {spec: weights_of(spec, base) for spec, base in models.bases.items()},
        "adapters": {folder: fingerprint(folder) for folder in models.adapters},
        "calibrations": {place: [asdict(one) for one in found] for place, found in models.fitted.items() if found},
    }


def recorded_made_by(before: Before) -> dict[str, Any]:  # Any: JSON
    """The same, as it was recorded."""
    return {name: before.config.get(name) for name in _MADE_BY}


def recorded_calibrations(before: Before) -> dict[str, list[Calibration]]:
    """The temperatures of a recorded evaluation, whose files may be gone.

    Raises:
        DataError: The records are not as they should be.
    """
    try:
        return {
            place: [Calibration(**{**one, "labels": tuple(one["labels"])}) for one in found]
            for place, found in before.config["calibrations"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{before.folder}: what it says of its temperatures cannot be read ({error})") from None


def check_same(before: Before, config: Mapping[str, Any]) -> None:
    """See that an evaluation is gone on with by the very adapters and temperatures that it was begun with.

    Raises:
        DataError: It is not.
    """
    for name in ("adapters", "calibrations"):
        now = json.loads(json_text({name: config[name]}))[name]
        if name in before.config and before.config[name] != now:
            raise DataError(f"{before.folder}: its {name} have changed since; begin anew with another --out")


def replaying(before: Before) -> Callable[[str], Backend]:
    """Spec -> the recorded answers of the model that it named.

    Raises:
        DataError: There is no call log. The function raises it for a model that is not there.
    """
    log = CallLog(before.folder / CALLS, writable=False)

    def load(spec: str) -> LoggedBackend:
        name = before.config.get("models", {}).get(spec)
        if name is None:
            raise DataError(f"{before.folder}: nothing was asked of {spec!r}")
        return LoggedBackend(None, log, name=name)

    return load


def first_different_rollout(run: Path, other: Path) -> str | None:
    """The first roll-out that two evaluations have not in common, whatever it cost; None where there is none.

    Raises:
        DataError: One of the files cannot be read.
    """
    one, two = _rollouts(run), _rollouts(other)
    for key in sorted(one.keys() | two.keys()):
        if one.get(key) != two.get(key):
            return f"{key[0]} on cascade {key[1]}, replica {key[2]}"
    return None


def _rollouts(folder: Path) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    found = {}
    try:
        for line in (folder / FILE).read_bytes().splitlines():
            row = json.loads(line)
            del row["usage"]  # who comes first pays, and that is a matter of time
            found[row["name"], row["cascade"], row["replica"]] = row
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE}: cannot be read ({error})") from None
    return found
