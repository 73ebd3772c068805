from __future__ import annotations

from test_index import result

from autotag.search import Index
from autotag.search.text_query import words_in


def test_what_chooses_the_look_of_an_emoji_ends_a_word() -> None:
    assert words_in("I❤️NY 1️⃣ ©️Meier हिन्दी") == ["I", "NY", "1", "Meier", "हिन्दी"]
    assert words_in("❤️ \N{COMBINING ACUTE ACCENT}") == []


def test_a_word_behind_an_emoji_is_found(tmp_path) -> None:
    with Index.open(tmp_path / "i.db") as index:
        index.add([result("/❤️Anna.jpg", "a dog"), result("/b.jpg", "I❤️NY")])
        assert [[hit.path for hit in index.search(word, by="words")] for word in ("Anna", "NY")] == [
            ["/❤️Anna.jpg"],
            ["/b.jpg"],
        ]
