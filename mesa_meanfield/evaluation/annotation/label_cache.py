"""The labels that an annotator has already got, kept in a file of JSON Lines.

One line is one text: a hash of all that was asked, the model's name, the labels; no text and no secret.
Whatever ends a process, the file holds whole lines and at most one that is cut off at its end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from mesa_meanfield.errors import DataError
from mesa_meanfield.protocols import Request

Labels = Mapping[str, str]
"""Dimension -> label."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    key: str
    model: str
    labels: dict[str, str]


class LabelCache:
    """Labels by the question that they answer; the first answer to a question stands.

    Several processes may use one file at the same time: each reads what the others have added before it
    asks anything.

    Args:
        path: The file, which need not be there; None for one that lasts as long as this object.

    Raises:
        DataError: The file cannot be used, or a line other than a cut-off last one is damaged.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._known: dict[str, Labels] = {}
        self._alike: dict[str, Labels] = {}  # there are few combinations of labels, and many texts
        self._end = self._lines = 0  # how much of the file was read: bytes and lines, whole ones only
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"{self.path} cannot be made: {error.strerror or error}") from error
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Labels | None:
        """The labels that answer a question, if they are known."""
        return self._known.get(key)

    def refresh(self) -> None:
        """Read what was added since."""
        with self._locked() as file:
            self._read(file)

    def add(self, labels: Mapping[str, Labels], model: str) -> None:
        """Keep answers, in one write; where another process was first, its answer stands.

        Args:
            labels: The question's key -> its labels.
            model: Who gave them.
        """
        with self._locked() as file:
            self._read(file)
            new = {key: of for key, of in labels.items() if key not in self._known}
            if file is not None and new:
                rows = ({"key": key, "model": model, "labels": dict(of)} for key, of in new.items())
                lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
                file.truncate(self._end)  # what a killed process had not written to the end of its line
                file.write(lines)
                file.flush()
                self._end += len(lines)
                self._lines += len(new)
            for key, of in new.items():
                self._keep(key, of)

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO | None]:
        """The file, for this process alone."""
        if self.path is None:
            yield None
            return
        try:
            with FileLock(f"{self.path}.lock"), self.path.open("a+b") as file:
                yield file
        except OSError as error:
            raise DataError(f"{self.path} cannot be used: {error.strerror or error}") from error

    def _read(self, file: BinaryIO | None) -> None:
        """The whole lines behind those that were read before."""
        if file is None:
            return
        if os.fstat(file.fileno()).st_size < self._end:
            raise DataError(f"{self.path} was shortened while it was in use; start again")
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                break  # the process that wrote it was killed
            self._lines += 1
            self._end += len(line)
            try:
                found = _Line.model_validate_json(line)
            except ValidationError as error:
                said = error.errors(include_url=False, include_input=False)[0]["msg"]
                where = f"{self.path} line {self._lines}"
                raise DataError(f"{where}: {said}; remove the line, and its text is asked again") from None
            self._keep(found.key, found.labels)

    def _keep(self, key: str, labels: Labels) -> None:
        self._known.setdefault(key, self._alike.setdefault(json.dumps(labels, sort_keys=True), labels))


def question_key(model: str, request: Request) -> str:
    """A name for all that an answer depends on: the model's name, prompt, schema, sampling and seed."""
    asked = [model, request.prefix, request.suffix, request.schema, astuple(request.sampling), request.seed]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
