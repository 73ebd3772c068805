"""Conditions of searches as filters of Qdrant."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

from autotag.metadata.keywords import fold
from autotag.search.filters import days_between, folder_in_path
from autotag.search.stored_text import kept_text, path_to_text
from autotag.search.stores.qdrant_points import lemmas_of

if TYPE_CHECKING:
    from qdrant_client.http.models import Filter as QdrantFilter

    from autotag.search.store import Conditions


def filter_of(conditions: Conditions) -> QdrantFilter:
    """Return the filter that leaves the photographs which meet the conditions."""
    from qdrant_client import models

    must: list[Any] = [has_phrase(lemmas_of(phrase)) for phrase in conditions.phrases]
    must_not: list[Any] = [has_phrase(words) for words in map(lemmas_of, conditions.unwanted) if words]
    others = [str(uuid.UUID(int=photo)) for photo in conditions.other_than if 0 <= photo < 2**128]
    if others:
        must_not.append(models.HasIdCondition(has_id=list(others)))
    wanted = conditions.filter
    if wanted is None:
        return models.Filter(must=must, must_not=must_not)

    def meet(key: str, **condition: Any) -> None:
        must.append(models.FieldCondition(key=key, **condition))

    for tag in wanted.tags:
        meet("labels", match=models.MatchValue(value=fold(kept_text(tag))))
    if wanted.folder is not None:
        folder, is_beginning = folder_in_path(os.fspath(wanted.folder))
        part = path_to_text(folder)
        match: Any = (
            models.MatchPrefix(prefix=part) if is_beginning else models.MatchSubstring(substring=part)
        )
        meet("path", match=match)
    since, until = days_between(wanted)
    if since is not None or until is not None:
        meet("taken", range=models.DatetimeRange(gte=since, lt=until))
    if wanted.camera is not None:
        meet("camera_folded", match=models.MatchSubstring(substring=kept_text(wanted.camera).lower()))
    if wanted.near is not None:
        latitude, longitude, distance = wanted.near
        centre = models.GeoPoint(lat=latitude, lon=longitude)
        meet("place", geo_radius=models.GeoRadius(center=centre, radius=distance * 1000))
    return models.Filter(must=must, must_not=must_not)


def has_phrase(phrase: str) -> Any:
    """Return the condition that the texts hold a phrase of lemmas."""
    from qdrant_client import models

    return models.FieldCondition(key="words", match=models.MatchPhrase(phrase=phrase))


def listed(conditions: Any) -> list[Any]:
    """Return a part of a filter, such as ``must``, as a list; it may be one condition or None."""
    if conditions is None:
        return []
    return list(conditions) if isinstance(conditions, list) else [conditions]
