"""Exact conditions on the photographs that a search may find, as SQL."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime, timedelta
from os import PathLike
from typing import cast

from autotag.config.checks import check_list, check_text, shown
from autotag.errors import ConfigError
from autotag.metadata.keywords import fold
from autotag.search.incoming import one_root, storable, without_loose_surrogates

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
EARTH_KM = 6371.0088  # mean radius, IUGG


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that a photograph must meet, all of them.

    Attributes:
        tags: each is one of its tags or keywords, whatever the case; a tag in another language is also known
            by its concept: "dog" finds "Hund".
        folder: a folder that it lies in, at any depth: a name, or several with separators between, or an
            absolute path. ``./photos`` and ``../photos`` are the folders here.
        since: the day, month or year in which it was taken at the earliest: ``"2020-05-17"``, ``"2020-05"``,
            ``"2020"``, or a ``datetime.date``. It is kept as text, as the folder is.
        until: the same at the latest, included.
        camera: a part of make or model, whatever the case.
        near: latitude and longitude in degrees, and a distance in kilometres.

    Raises:
        ConfigError: a date or a place is wrong, a text is empty or no text, or ``since`` is after ``until``.
    """

    _: KW_ONLY
    tags: tuple[str, ...] = ()
    folder: str | PathLike[str] | None = None
    since: str | date | None = None
    until: str | date | None = None
    camera: str | None = None
    near: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        self._check_texts()
        for name in ("since", "until"):
            day = getattr(self, name)
            if day is not None:
                object.__setattr__(self, name, _checked_date(name, day))
        since, until = days_between(self)
        if since is not None and until is not None and since >= until:
            raise ConfigError(f"since={self.since!r} is after until={self.until!r}; no day lies between.")
        if self.near is not None:
            object.__setattr__(self, "near", _three_numbers(self.near))
            latitude, longitude, distance = self.near
            if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < distance < math.inf):
                raise ConfigError(
                    f"near={self.near} is not a place: latitude in [-90, 90], longitude in [-180, 180], a "
                    "distance above 0 km."
                )
        if self.folder is not None:
            folder = os.fspath(self.folder)
            if not folder.strip(os.sep):
                raise ConfigError("folder is empty; name a folder.")
            object.__setattr__(self, "folder", _plain_folder(folder))
        if self.camera is not None and not self.camera.strip():
            raise ConfigError("camera is empty; name a make or model.")
        if not all(map(str.strip, self.tags)):
            raise ConfigError(f"tags={self.tags!r}: one is empty; name a tag or keyword.")

    def _check_texts(self) -> None:
        check_list("tags", self.tags)
        if not isinstance(self.tags, Iterable):
            raise ConfigError(f"tags is {shown(self.tags)}; allowed: a list of texts")
        object.__setattr__(self, "tags", tuple(self.tags))
        for tag in self.tags:
            check_text("a tag", tag)
        if self.camera is not None:
            check_text("camera", self.camera)
        if self.folder is not None and not isinstance(self.folder, PathLike):
            check_text("folder", self.folder)

    def sql(self) -> tuple[list[str], list[object]]:
        """Return conditions on the table ``photo`` and their parameters; empty lists for no filter."""
        conditions: list[str] = []
        parameters: list[object] = []
        for tag in self.tags:
            conditions.append(
                "id IN (SELECT photo FROM tag WHERE folded = ? UNION ALL "
                "SELECT photo FROM concept WHERE folded = ?)"
            )
            parameters += [fold(tag), fold(tag)]
        if self.folder is not None:
            folder, is_beginning = folder_in_path(os.fspath(self.folder))
            conditions.append("instr(path, ?) = 1" if is_beginning else "instr(path, ?) > 0")
            parameters.append(os.fsencode(without_loose_surrogates(folder)))
        if self.since is not None:
            conditions.append("taken >= ?")
            parameters.append(self.since)
        if self.until is not None:
            conditions.append("substr(taken, 1, ?) <= ?")
            parameters += [len(str(self.until)), self.until]
        if self.camera is not None:
            conditions.append("instr(in_lower_case(camera), ?) > 0")
            parameters.append(storable(self.camera).lower())
        if self.near is not None:
            conditions.append("distance_km(latitude, longitude, ?, ?) <= ?")
            parameters += list(self.near)
        return conditions, parameters


def _checked_date(name: str, day: object) -> str:
    """Return a day, month or year as text.

    Raises:
        ConfigError: it is not one.
    """
    text = day.isoformat()[:10] if isinstance(day, date) else day
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        raise ConfigError(f"{name}={shown(day)} is not a date; write '2020-05-17', '2020-05' or '2020'.")
    _first_day(name, text)
    return text


def _three_numbers(near: object) -> tuple[float, float, float]:
    """Return three numbers as such.

    Raises:
        ConfigError: it is something else.
    """
    try:
        check_list("near", near)
        latitude, longitude, distance = map(float, cast("Iterable[float]", near))
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(
            f"near is {shown(near)}; allowed: three numbers: latitude, longitude, kilometres"
        ) from error
    return latitude, longitude, distance


def _plain_folder(folder: str) -> str:
    """Return a folder without ``.`` and ``..``; one that begins with them becomes absolute."""
    plain = one_root(os.path.normpath(folder))
    begins = folder.split(os.sep, 1)[0] in {".", ".."} or plain.split(os.sep, 1)[0] in {".", ".."}
    return os.path.abspath(folder) if begins else plain  # noqa: PTH100 - links stay links


def folder_in_path(folder: str) -> tuple[str, bool]:
    """Return a folder as it stands in paths, and whether they begin with it, as it is absolute."""
    is_absolute = os.path.isabs(folder)  # noqa: PTH117 - a text
    return f"{'' if is_absolute else os.sep}{folder.rstrip(os.sep)}{os.sep}", is_absolute


def read_place(text: str) -> tuple[float, float, float]:
    """Return the place that ``52.52,13.405,5`` names: latitude, longitude, kilometres; see ``Filter.near``.

    Raises:
        ConfigError: it is not three numbers.
    """
    try:
        latitude, longitude, distance = map(float, text.split(","))
    except ValueError as error:
        raise ConfigError(f"near={text!r}: write latitude,longitude,kilometres: 52.52,13.405,5") from error
    return latitude, longitude, distance


def in_lower_case(text: str | None) -> str | None:
    """Return a text in lower case; SQLite's own function knows ASCII only."""
    return None if text is None else text.lower()


def distance_km(
    latitude: float | None, longitude: float | None, other_latitude: float, other_longitude: float
) -> float | None:
    """Return the distance of two places along a great circle (haversine), or None where one is not known."""
    if latitude is None or longitude is None:
        return None
    one, other = math.radians(latitude), math.radians(other_latitude)
    across = math.radians(longitude - other_longitude)
    half = math.sin((one - other) / 2) ** 2 + math.cos(one) * math.cos(other) * math.sin(across / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def days_between(filter: Filter) -> tuple[datetime | None, datetime | None]:  # noqa: A002
    """Return the moments from which and until which a photograph may be taken, the latter excluded."""
    since = None if filter.since is None else _first_day("since", str(filter.since))
    if filter.until is None:
        return since, None
    first = _first_day("until", str(filter.until))
    parts = str(filter.until).count("-")
    try:
        if parts == 0:
            return since, first.replace(year=first.year + 1)
        if parts == 1:
            following = first.replace(day=28) + timedelta(days=4)
            return since, following.replace(day=1)
        return since, first + timedelta(days=1)
    except (ValueError, OverflowError):  # the end of the year 9999
        return since, datetime.max


def _first_day(name: str, day: str) -> datetime:
    """Return the first day of a year, a month, or that day.

    Raises:
        ConfigError: it is not in the calendar.
    """
    try:
        return datetime.fromisoformat(f"{day}-01-01"[:10])
    except ValueError as error:
        raise ConfigError(f"{name}={day!r} is not in the calendar: {error}") from error
