"""Records of foreign files: the types of their fields, and what is told of a broken one."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import ijson  # type: ignore[import-untyped]  # carries no types
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from mesa_meanfield.errors import DataError

# Any: JSON, here and below


class BrokenRecord(DataError):
    """A record or file of the source is not what its format says; the rest can be converted without it."""


class Record(BaseModel):
    """What is read of a JSON object; its other fields are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


_Read = TypeVar("_Read", bound=Record)


def parse(kind: type[_Read], values: Any, where: str) -> _Read:
    """Read one record.

    Raises:
        BrokenRecord: A field is missing or of the wrong type; says where, and never its content.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        said = first["msg"].removeprefix("Value error, ")
        raise BrokenRecord(f"{where}: {f'{field}: ' if field else ''}{said}{more}") from None


def load_json(file: Path) -> Any:
    """A small JSON file.

    Raises:
        BrokenRecord: It cannot be read; says where.
    """
    try:
        return json.loads(file.read_bytes().removeprefix(codecs.BOM_UTF8))
    except json.JSONDecodeError as error:
        raise BrokenRecord(f"{file} line {error.lineno} column {error.colno}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise BrokenRecord(f"{file}: {_reason(error)}") from None
    except OSError as error:
        raise BrokenRecord(f"{file}: cannot be read: {error.strerror or error}") from None


def stream_json_list(file: Path) -> Iterator[Any]:
    """The items of a JSON file that is one long list, one at a time.

    Raises:
        BrokenRecord: It cannot be read, is no list, or breaks off; says after which item.
    """
    number = 0
    try:
        with file.open("rb") as opened:
            if opened.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                opened.seek(0)
            start = opened.tell()
            if _first_sign(opened) != b"[":
                raise BrokenRecord(f"{file}: expected a JSON list of posts, which begins with [")
            opened.seek(start)
            for item in ijson.items(opened, "item", use_float=True):
                number += 1
                yield item
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise BrokenRecord(f"{file} after post {number}: {_reason(error)}") from None
    except OSError as error:
        raise BrokenRecord(f"{file}: cannot be read: {error.strerror or error}") from None


def _first_sign(opened: Any) -> bytes:
    while (sign := opened.read(1)).isspace():
        pass
    return bytes(sign)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    if isinstance(error, ijson.IncompleteJSONError) and "premature EOF" in str(error):
        return "the JSON breaks off"
    return f"no JSON: {str(error).splitlines()[0]}"  # the further lines would quote a text


def visible(folder: Path) -> list[Path]:
    """A folder's entries in their order, without the hidden ones (archives made on a Mac carry a twin of each file).

    Raises:
        DataError: There is no such folder.
    """
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}; give the data set's folder") from None


# --- Types of fields ---------------------------------------------------------------------------------


def _some(value: Any) -> Any:
    return None if value in ("", 0) else value


def _identity(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        return _whole(value.strip())
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("expected an id: a number or a text that is not empty")


def _whole(value: Any) -> Any:
    """Repair halves of characters, which a text cut by bytes has at its end and UTF-8 cannot hold."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _blank_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _natural(value: int | None) -> int | None:
    return None if value is not None and value < 0 else value  # how some crawlers write "unknown"


def _twitter_time(value: Any) -> Any:
    if isinstance(value, str) and value[:1].isalpha():
        with suppress(ValueError):  # then it is told as any other text that is no time
            return time_in(value, "%a %b %d %H:%M:%S %z %Y")
    return value


def time_in(value: Any, form: str) -> datetime:
    """A time that is written in one form.

    Raises:
        ValueError: It is not, or it is no text.
    """
    try:
        return datetime.strptime(value, form)
    except (TypeError, ValueError):
        example = datetime(2014, 8, 10, 1, 30, 14, tzinfo=UTC).strftime(form)
        raise ValueError(f"expected a time such as {example}") from None


def _utc(value: datetime) -> datetime:
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError("expected a time between the years 1 and 9999") from None


def _sex(value: Any) -> Any:
    return {"m": "m", "male": "m", "f": "f", "female": "f"}.get(value.lower()) if isinstance(value, str) else None


Id = Annotated[str, BeforeValidator(_identity)]
MaybeId = Annotated[Id | None, BeforeValidator(_some)]
Text = Annotated[str, BeforeValidator(_whole), AfterValidator(str.strip)]
MaybeText = Annotated[Text | None, BeforeValidator(_blank_is_none)]
"""A text in which nothing stands is unknown."""
Count = Annotated[int | None, BeforeValidator(_blank_is_none), AfterValidator(_natural)]
Flag = Annotated[bool | None, BeforeValidator(_blank_is_none)]
Gender = Annotated[str | None, BeforeValidator(_sex)]
Moment = Annotated[datetime, BeforeValidator(_twitter_time), AfterValidator(_utc)]
"""Seconds since 1970, ISO 8601 (UTC unless it says otherwise) or Twitter's own form."""
MaybeMoment = Annotated[Moment | None, BeforeValidator(_some)]
