"""The endpoints under ``/review/api``: photographs, tags, pictures, decisions, undo, apply.

Clients name photographs by id, never by path. Every error is ``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from autotag.errors import ConfigError, ImageReadError, RequestRefusedError
from autotag.review.decisions import Decision, Order, State, Where
from autotag.review.guard import COOKIE, refused
from autotag.review.photographs import Size, Status  # noqa: TC001 - FastAPI reads them

if TYPE_CHECKING:
    from autotag.review.applying import Applying, Progress
    from autotag.review.guard import Sessions
    from autotag.review.photographs import Located, Thumbnails
    from autotag.review.session import Outcome, Review, View
    from autotag.review.suggestions import Suggestions
    from autotag.review.table import ReviewTable

_MOST_PHOTOS = 500
_DECODERS = max(2, min(4, os.cpu_count() or 1))  # more would take memory: a photograph may need 1 GiB
_FOREVER = "private, max-age=31536000, immutable"
_GONE = 499
REVIEW_HEADER = "Autotag-Review"
"""The header that names the review that a request is about."""

PhotoId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of a photograph.")]
Revision = Annotated[int, Field(ge=0, description="The last revision that the asker has seen.")]


class Selection(BaseModel):
    """Photographs and tags; everything that is given has to hold."""

    model_config = ConfigDict(extra="forbid")

    tag: str | None = Field(default=None, description="The tag, as it is spelt now.")
    state: State | None = Field(default=None, description="State of the tag.")
    min_score: float | None = Field(default=None, description="Tags with at least this score.")
    max_score: float | None = Field(default=None, description="Tags with a score below this.")
    folder: str | None = Field(default=None, description="Photographs in this folder and in those inside it.")
    text: str | None = Field(default=None, max_length=200, description="Part of file name, caption or a tag.")

    def where(self) -> Where:
        """Return the filters alone, without what a subclass adds."""
        return Where(**self.model_dump(include=set(Selection.model_fields)))


class ListIn(Selection):
    """Ask for a list of photographs, or for a part of one."""

    order: Order = "album"
    cursor: str | None = Field(default=None, pattern=r"^[0-9a-f]+\.\d{1,9}$")
    limit: int = Field(default=100, ge=1, le=_MOST_PHOTOS)


class TagsIn(Selection):
    """Ask for tags."""

    part: str = Field(default="", max_length=200, description="Part of the tag.")
    limit: int = Field(default=200, ge=1, le=1000)


class TagOut(BaseModel):
    """A tag of a photograph; ``was`` is what the plan called it, where it was renamed."""

    text: str
    score: float
    state: State
    was: str | None = None
    added: bool = Field(default=False, description="Whether a person added it.")
    near_cut: bool = Field(default=False, description="Whether it only just reached its threshold.")


class PhotoOut(BaseModel):
    """A photograph."""

    id: str
    file: str = Field(description="Relative to the album.")
    caption: str
    status: Status = Field(description="Whether the file is as it was when the plan was made.")
    small: str = Field(description="Path of a picture of at most 320 pixels; empty for a missing file.")
    large: str = Field(description="The same, of at most 960 pixels.")
    tags: list[TagOut]


class PageOut(BaseModel):
    """A part of a list. ``<view>.<position>`` is a cursor to any place in it."""

    revision: int
    view: str
    total: int
    position: int
    photos: list[PhotoOut]
    next: str | None = Field(description="Cursor to the next part; null at the end.")


class FolderOut(BaseModel):
    """A folder with the number of photographs in it, not counting those in folders inside it."""

    folder: str
    photographs: int


class SummaryOut(BaseModel):
    """What is under review."""

    revision: int
    review: str = Field(description="Key of the plan, for the header Autotag-Review.")
    plan: str = Field(description="Name of the plan.")
    album: str
    photographs: int
    tags: dict[State, int]
    folders: list[FolderOut]
    undo: str | None = Field(description="What an undo would take back, in words.")
    of_album: bool = Field(description="Whether the tags are written already.")


class TagCountOut(BaseModel):
    """How many photographs have a tag, by state."""

    tag: str
    undecided: int
    confirmed: int
    rejected: int


class TagsOut(BaseModel):
    """Tags, the most frequent first."""

    revision: int
    total: int = Field(description="How many tags fit; at most ``limit`` are listed.")
    tags: list[TagCountOut]


class CutsOut(BaseModel):
    """What is left at each cut of the scores; the three lists have one length."""

    scores: list[float]
    tags: list[int]
    photographs: list[int]


class DecisionIn(BaseModel):
    """A decision, as ``autotag.review.decisions.Decision`` describes it."""

    model_config = ConfigDict(extra="forbid")

    revision: Revision
    action: Literal["confirm", "reject", "reset", "rename", "add"]
    tag: str | None = None
    to: str | None = None
    photos: list[str] | None = Field(default=None, description="Ids; all photographs if not given.")
    where: Selection = Selection()


class SeenIn(BaseModel):
    """What the asker has seen."""

    model_config = ConfigDict(extra="forbid")

    revision: Revision


class ApplyIn(SeenIn):
    """What to apply."""

    undecided: Literal["write", "leave out"] = Field(
        default="write", description="What becomes of tags that nobody decided about."
    )


class OutcomeOut(BaseModel):
    """What changed; ``photos`` is null where it is more than 2,000 photographs."""

    revision: int
    tags: int
    photos: list[str] | None
    words: str
    undo: str | None


class ChangesOut(BaseModel):
    """What changed since a revision."""

    revision: int
    photos: list[str] | None
    undo: str | None


class ErrorOut(BaseModel):
    """A photograph that failed, and why."""

    file: str
    reason: str


class ProgressOut(BaseModel):
    """How far an application is."""

    status: Literal["never", "running", "done", "stopped", "failed"]
    photographs: int
    done: int
    written: int
    unchanged: int
    failed: int
    errors: list[ErrorOut]
    notes: list[str]
    message: str
    plan: str
    revision: int


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that the endpoints work with."""

    review: Review
    applying: Applying
    thumbnails: Thumbnails
    suggestions: Suggestions
    sessions: Sessions


def review_routes(desk: Desk) -> APIRouter:
    """Return the endpoints for a review.

    A request may name the review that it is about, in the header ``Autotag-Review``. It is refused where
    another plan is under review at this address meanwhile, so that an old window changes nothing there.
    """

    def check_review(
        key: Annotated[str, Header(alias=REVIEW_HEADER, description="``review`` of the summary.")] = "",
    ) -> None:
        if key and key != desk.review.key:
            raise RequestRefusedError(
                "another_review", "another plan is under review at this address now; load the page again."
            )

    router = APIRouter(prefix="/review/api", tags=["review"], dependencies=[Depends(check_review)])
    _add_lists(router, desk)
    _add_pictures(router, desk)
    _add_decisions(router, desk)
    _add_applying(router, desk)

    @router.post("/session", status_code=204, summary="Exchange a token for a cookie, which pictures need")
    def session(request: Request) -> Response:
        """Set a cookie that lets the page load pictures; do nothing where no token is needed."""
        response = Response(status_code=204)
        if desk.sessions.needed:
            is_secure = request.url.scheme == "https"
            response.set_cookie(
                COOKIE,
                desk.sessions.begin(),
                httponly=True,
                samesite="strict",
                secure=is_secure,
                path="/review",
            )
        return response

    return router


def _add_lists(router: APIRouter, desk: Desk) -> None:
    review = desk.review

    @router.get("/summary", summary="What is under review")
    def summary() -> SummaryOut:
        """Return what is under review: the plan, the album, and the counts."""
        with review.reading() as table:
            return SummaryOut(
                revision=review.revision,
                review=review.key,
                plan=shown(review.plan.name),
                album=shown(str(review.album)),
                photographs=len(table),
                tags=table.states(),
                folders=[
                    FolderOut(folder=shown(folder), photographs=count)
                    for folder, count in table.folder_counts()
                ],
                undo=_to_undo(review),
                of_album=review.is_of_album,
            )

    @router.get("/photos", summary="Photographs that fit, or the part of a list at a cursor")
    def photos(given: Annotated[ListIn, Query()]) -> PageOut:
        """A list stays as it was when it was asked for, whatever is decided; a cursor names list and place.

        With a cursor, the selection is not looked at. 410: the list is not kept any more; ask again.
        """
        key, _, position = (given.cursor or "").partition(".")
        view = review.known_view(key) if key else review.view(given.where(), given.order)
        return _page(review, view, int(position or 0), given.limit)

    @router.get("/photos/{photo}", summary="One photograph")
    def photo(photo: PhotoId) -> PhotoOut:
        """Return one photograph with its tags."""
        place = _place(review.table, photo)
        found = review.photographs.located(place)
        with review.reading() as table:
            return _photo(table, place, found)

    @router.get("/tags", summary="Tags of the photographs that fit, with counts")
    def tags(given: Annotated[TagsIn, Query()]) -> TagsOut:
        """Return the tags of the photographs that fit, with counts."""
        part = given.part.casefold()
        with review.reading() as table:
            found = [one for one in table.counts(given.where()) if part in one.tag.casefold()]
            revision = review.revision
        counts = [
            TagCountOut(tag=one.tag, undecided=one.undecided, confirmed=one.confirmed, rejected=one.rejected)
            for one in found[: given.limit]
        ]
        return TagsOut(revision=revision, total=len(found), tags=counts)

    @router.get("/scores", summary="How many tags and photographs each cut of the scores leaves")
    def scores(given: Annotated[Selection, Query()]) -> CutsOut:
        """Return how many tags and photographs each cut of the scores leaves."""
        with review.reading() as table:
            found = table.cuts(given.where())
        return CutsOut(scores=found.scores, tags=found.tags, photographs=found.photographs)

    @router.get("/suggestions", summary="Tags, keywords and words of the vocabulary that contain a text")
    def suggestions(
        part: Annotated[str, Query(max_length=200)], limit: Annotated[int, Query(ge=1, le=100)] = 12
    ) -> list[str]:
        """Return words that contain a text: tags, keywords, and words of the vocabulary."""
        with review.reading() as table:
            words = table.words()
        return [shown(word) for word in desk.suggestions.matching(part, words, limit=limit)]


def _add_pictures(router: APIRouter, desk: Desk) -> None:
    decoding = asyncio.Semaphore(_DECODERS)

    def look(place: int, size: Size) -> tuple[Located, bytes | None]:
        """Return where a photograph is, and its picture if that was made before."""
        found = desk.review.photographs.located(place)
        return found, desk.thumbnails.kept(found, size) if found.version else None

    @router.get(
        "/photos/{photo}/picture",
        summary="A small JPEG of a photograph, upright",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 304: {}, 404: {}, 415: {}},
    )
    async def picture(
        request: Request,
        photo: PhotoId,
        size: Size = "small",
        version: Annotated[str, Query(description="Of the file; with it, browsers keep the picture.")] = "",
    ) -> Response:
        """Return a small JPEG of a photograph, upright; 304 where the browser has it."""
        place = _place(desk.review.table, photo)
        found, content = await asyncio.to_thread(look, place, size)
        if not found.version:
            raise RequestRefusedError("not_found", "the photograph is not there any more.")
        headers = {
            "ETag": f'"{found.version}-{size}"',
            "Cache-Control": _FOREVER if version == found.version else "private, no-cache",
        }
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if content is None:
            async with decoding:
                if await request.is_disconnected():
                    return Response(status_code=_GONE)  # scrolled out of sight
                try:
                    content = await asyncio.to_thread(desk.thumbnails.make, found, size)
                except ImageReadError as error:
                    return refused(415, "not_an_image", error.reason)
        return Response(content, media_type="image/jpeg", headers=headers)


def _add_decisions(router: APIRouter, desk: Desk) -> None:
    review = desk.review

    @router.post("/decisions", summary="Confirm, reject, reset, rename or add tags")
    def decide(given: DecisionIn) -> OutcomeOut:
        """Make a decision everywhere, or only for ``photos`` and ``where``, and keep it on the disk.

        409: one of these photographs was changed since ``revision``, in another window; look again.
        """
        try:
            photos = None if given.photos is None else tuple(given.photos)
            decision = Decision(given.action, given.tag, given.to, photos, given.where.where())
        except ConfigError as error:
            raise RequestRefusedError("wrong_option", str(error)) from error
        return _outcome(review, review.decide(decision, given.revision))

    @router.post("/undo", summary="Take back the last decision that stands")
    def undo(given: SeenIn) -> OutcomeOut:
        """Take back the last decision that stands."""
        return _outcome(review, review.undo(given.revision))

    @router.get("/changes", summary="What was decided since a revision, in any window")
    def changes(since: Annotated[int, Query(ge=0)]) -> ChangesOut:
        """Return the photographs that were decided on since a revision, in any window."""
        with review.reading():
            return ChangesOut(
                revision=review.revision, photos=review.changed_since(since), undo=_to_undo(review)
            )


def _add_applying(router: APIRouter, desk: Desk) -> None:
    @router.get("/apply", summary="How far the application is")
    def progress() -> ProgressOut:
        """Return how far the application is."""
        return _progress(desk.applying.progress)

    @router.post("/apply", status_code=202, summary="Apply the decisions: plan, journal, XMP")
    def apply(given: ApplyIn) -> ProgressOut:
        """Write the edited plan beside the plan, and apply it as `autotag apply` does.

        `autotag undo` takes it back.
        """
        return _progress(desk.applying.start(given.undecided, given.revision))

    @router.post("/apply/stop", summary="End the application after the photographs in hand")
    def stop() -> ProgressOut:
        """End the application after the photographs in hand."""
        return _progress(desk.applying.stop())


def shown(text: str) -> str:
    """Return a file name as text: bytes that are not UTF-8 become replacement characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _page(review: Review, view: View, position: int, limit: int) -> PageOut:
    places = [int(place) for place in view.photos[position : position + limit]]
    found = [review.photographs.located(place) for place in places]  # waits for the disk: not under the lock
    with review.reading() as table:
        photos = [_photo(table, place, one) for place, one in zip(places, found, strict=True)]
        revision = review.revision
    end = position + len(photos)
    return PageOut(
        revision=revision,
        view=view.key,
        total=len(view.photos),
        position=position,
        photos=photos,
        next=f"{view.key}.{end}" if end < len(view.photos) else None,
    )


def _photo(table: ReviewTable, place: int, found: Located) -> PhotoOut:
    tags = [
        TagOut(
            text=tag.text,
            score=tag.score,
            state=tag.state,
            was=tag.was if tag.was != tag.text else None,
            added=tag.place is None,
            near_cut=tag.is_near_cut,
        )
        for tag in table.tags(place)
    ]
    return PhotoOut(
        id=table.ids[place],
        file=shown(table.files[place]),
        caption=shown(table.captions[place]),
        status=found.status,
        small=_picture(table.ids[place], found, "small"),
        large=_picture(table.ids[place], found, "large"),
        tags=tags,
    )


def _picture(key: str, found: Located, size: Size) -> str:
    version = found.version
    return f"/review/api/photos/{key}/picture?size={size}&version={version}" if version else ""


def _place(table: ReviewTable, key: str) -> int:
    try:
        return table.index(key)
    except KeyError as error:
        raise RequestRefusedError("not_found", f"no photograph has the id {key}.") from error


def _to_undo(review: Review) -> str | None:
    number = review.last_standing()
    return None if number is None else review.words_of(number)


def _outcome(review: Review, found: Outcome) -> OutcomeOut:
    return OutcomeOut(
        revision=found.revision,
        tags=found.tags,
        photos=found.photos,
        words=found.words,
        undo=_to_undo(review),
    )


def _progress(now: Progress) -> ProgressOut:
    plain: dict[str, Any] = {
        name: getattr(now, name) for name in ProgressOut.model_fields if name != "errors"
    }
    errors = [ErrorOut(file=shown(file), reason=shown(reason)) for file, reason in now.errors]
    return ProgressOut(**plain, errors=errors)
