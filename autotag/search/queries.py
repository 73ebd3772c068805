"""What is searched for, as vectors of the encoder that made an index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn

import numpy as np

from autotag.config.checks import check_count, check_text
from autotag.errors import ConfigError, SearchIndexError, UnknownNameError
from autotag.images.reading import read_image
from autotag.protocols import image_size_of
from autotag.search.text_query import TextQuery
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from autotag.images.reading import ImageInput
    from autotag.protocols import ImageTextEncoder

By = Literal["both", "vectors", "words"]


def checked_query(text: str | None, by: By, top_k: int, without: str | None) -> TextQuery | None:
    """Return the parts of a query; None for no text.

    Raises:
        ConfigError: it or ``without`` is empty, or an option is wrong.
    """
    check_count("top_k", top_k)
    for option, words in (("the query", text), ("without", without)):
        if words is not None:
            check_text(option, words)
    if by not in {"both", "vectors", "words"}:
        raise ConfigError(f"by={by!r} is not known; use both, vectors or words.")
    if without is not None and not TextQuery.parse(without).plain:
        raise ConfigError("the words that are not wanted are empty; write some, or leave them out.")
    if text is None:
        return None
    query = TextQuery.parse(text)
    if not query.plain:
        raise ConfigError("the query is empty; write what to look for.")
    if by == "words" and not query.any_word:
        raise ConfigError(f"the query {one_line(text[:60])!r} has no word; write what to look for.")
    return query


@dataclass(eq=False)
class QueryEncoder:
    """Embeds queries by the encoder that made an index's vectors, which is loaded when it is first needed.

    Attributes:
        where: the index, for errors.
        about: returns the facts that the index keeps: encoder, encoder_name.
        encoder: a model's name, an object, or None for the one whose name the index keeps.
        device: where it runs.
    """

    where: str
    about: Callable[[], Mapping[str, str]]
    encoder: str | ImageTextEncoder | None = None
    device: str = "auto"
    _loaded: ImageTextEncoder | None = field(init=False, repr=False, default=None)

    def chosen(
        self, by: By, query: TextQuery | None, others: Sequence[object], count: Callable[[], int]
    ) -> By:
        """Return words in the place of both where an index of photographs without vectors is asked for words.

        Args:
            by: what was asked for.
            query: the words.
            others: queries that are not words; None for none.
            count: returns the number of photographs.
        """
        are_words = query is not None and query.any_word and all(other is None for other in others)
        has_words_only = by == "both" and are_words and "encoder" not in self.about() and count() > 0
        return "words" if has_words_only else by

    def vectors(
        self,
        query: TextQuery | None,
        image: ImageInput | None,
        like: NDArray[np.float32] | None,
        without: str | None,
    ) -> list[NDArray[np.float32]]:
        """Return one unit vector per query, each moved away from the words in ``without``.

        Args:
            query: its text is embedded.
            image: an image to embed.
            like: a vector that is taken as it is.
            without: words that are not wanted.

        Raises:
            SearchIndexError: the encoder is not the index's.
            ImageReadError: the image cannot be read.
            ModelError: the encoder cannot be loaded.
        """
        found: list[NDArray[np.float32]] = []
        if query is not None and query.plain:
            found.append(self.texts([query.plain])[0])
        if image is not None:
            found.append(self._image(image))
        if like is not None:
            found.append(unit(like))
        if without is not None and found:
            unwanted = self.texts([TextQuery.parse(without).plain])[0]
            found = [unit(vector - unwanted) for vector in found]
        return found

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (T, D) unit vectors of texts; raises what ``vectors`` does."""
        vectors = np.asarray(self.loaded().embed_texts(texts), dtype=np.float32)
        return np.stack([unit(vector) for vector in vectors])

    def _image(self, image: ImageInput) -> NDArray[np.float32]:
        encoder = self.loaded()
        read = read_image(image, target_size=image_size_of(encoder))
        return unit(np.asarray(encoder.embed_images([read.image])[0], dtype=np.float32))

    def loaded(self) -> ImageTextEncoder:
        """Return the encoder, loaded once and checked against the index each time.

        Raises:
            SearchIndexError: it is not the one that made the index's vectors, or there are none.
        """
        about = self.about()
        if "encoder" not in about:
            reason = "it holds no vectors; `autotag index FOLDER` makes them, and --by words needs none."
            raise SearchIndexError(self.where, reason)
        if self._loaded is None or self._loaded.id != about["encoder"]:  # a store may have been made again
            from autotag.models.pool import ModelPool

            wanted = self.encoder or about.get("encoder_name")
            if not wanted:
                reason = f"it does not say how to load its encoder {about['encoder']!r}; name it: encoder=..."
                raise SearchIndexError(self.where, reason)
            try:
                loaded = ModelPool(device=self.device).encoder(wanted)
            except UnknownNameError as error:
                reason = f"{error} Name the encoder {about['encoder']!r}: encoder=... (--encoder)."
                raise SearchIndexError(self.where, reason) from error
            if loaded.id != about["encoder"]:
                refuse_encoder(self.where, loaded.id, about["encoder"])
            self._loaded = loaded
        return self._loaded


def check_encoder(where: str, about: Mapping[str, str], encoder_id: str, dimension: int) -> None:
    """Refuse vectors that cannot be compared with those of an index.

    Args:
        where: the index, for errors.
        about: the facts that the index keeps: encoder, dimension.
        encoder_id: of the vectors.
        dimension: of the vectors.

    Raises:
        SearchIndexError: they are of another encoder, or of another length.
    """
    if about["encoder"] != encoder_id:
        refuse_encoder(where, encoder_id, about["encoder"])
    if about["dimension"] != str(dimension):
        raise SearchIndexError(
            where,
            f"its vectors of the encoder {encoder_id!r} have {about['dimension']} dimensions, and these have "
            f"{dimension}, which cannot be compared. Give encoders of different vectors different ids.",
        )


def refuse_encoder(where: str, other: str, own: str) -> NoReturn:
    """Say that vectors of two encoders cannot be compared.

    Raises:
        SearchIndexError: always.
    """
    raise SearchIndexError(
        where,
        f"its vectors are of the encoder {own!r}, and these are of {other!r}, which cannot be compared. "
        "Use the preset or encoder that made the index, or make another index (--index FILE, --table NAME).",
    )


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector with length 1; one of length 0 as it is."""
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length else vector, dtype=np.float32)
