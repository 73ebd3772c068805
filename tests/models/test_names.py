from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autotag.config import registry
from autotag.errors import ConfigError, DuplicateNameError, ModelUnavailableError, UnknownNameError
from autotag.models import cards
from autotag.models.cards import find_card
from autotag.models.names import ModelName, check_model, parse_name
from autotag.testing import FakeCaptioner


def test_names_of_cards_are_unique() -> None:
    names = [card.name for card in cards.cards()]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("card", cards.cards(), ids=lambda card: card.name)
def test_every_card_says_what_users_ask(card: cards.ModelCard) -> None:
    assert card.licence
    assert card.origin
    assert card.factory in registry.names(card.kind)
    assert bool(card.default_thresholds) == (card.kind == "encoder")
    assert (card.bundled or card.remote) == (card.download_size == 0)
    assert (card.revision is None) == (card.bundled or card.remote or card.package is not None)


def test_every_captioner_that_studies_compare_has_a_name() -> None:
    families = {
        "blip-base": "hf", "blip-large": "hf", "blip2-opt-2.7b": "hf", "blip2-flan-t5-xl": "hf",
        "git-base": "hf", "git-large": "hf", "florence-2-base": "hf", "florence-2-large": "hf",
        "vit-gpt2": "hf", "smolvlm": "hf", "qwen2.5-vl-3b": "hf", "coca-l": "open_clip", "ofa": "remote",
    }  # fmt: skip
    named = {card.name: card.factory for card in cards.cards() if card.kind == "captioner"}

    assert families.items() <= named.items()


def test_a_model_behind_a_server_is_never_downloaded() -> None:
    card = find_card("ofa", "captioner")
    assert card

    assert (card.remote, card.bundled, cards.is_present(card)) == (True, False, True)
    with pytest.raises(ModelUnavailableError, match="runs behind http"):
        cards.download(card)


@pytest.mark.parametrize("name", ["remote", "remote:"])
def test_a_remote_captioner_needs_its_url(name: str) -> None:
    with pytest.raises(ConfigError, match="has no location; write 'remote:<URL>'"):
        parse_name(name, "captioner")


@pytest.mark.parametrize("card", cards.cards(), ids=lambda card: card.name)
def test_the_name_of_a_card_is_its_address(card: cards.ModelCard) -> None:
    address = parse_name(card.name, card.kind)

    assert (address.factory, address.location, address.revision) == (
        card.factory,
        card.location,
        card.revision,
    )
    assert address.request("cpu", "float32").default_thresholds == card.default_thresholds


def test_open_clip_keeps_the_weights_where_the_cards_say() -> None:
    import open_clip

    for card in cards.cards():
        if card.factory == "open_clip" and not card.bundled:
            architecture, _, tag = card.location.rpartition("/")
            assert open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"] == f"{card.hub_id}/"


def test_a_card_found_by_its_location_is_the_same_model() -> None:
    for name in ("hf:Salesforce/blip-image-captioning-base", "hf:Salesforce/blip-image-captioning-base@main"):
        assert parse_name(name, "captioner") == parse_name("blip-base", "captioner")


def test_another_revision_is_another_model() -> None:
    address = parse_name("hf:Salesforce/blip-image-captioning-base@v1.0", "captioner")

    assert (address.location, address.revision) == ("Salesforce/blip-image-captioning-base", "v1.0")
    assert address.card is None


def test_a_hub_id_without_revision_means_the_main_branch() -> None:
    assert parse_name("hf:someone/model", "captioner").revision == "main"


@pytest.mark.parametrize(
    ("kind", "factory"), [("captioner", "hf"), ("encoder", "hf"), ("extractor", "keybert")]
)
def test_a_bare_folder_is_loaded_by_what_suits_its_kind(tmp_path: Path, kind: Any, factory: str) -> None:
    address = parse_name(str(tmp_path), kind)

    assert (address.factory, address.location) == (factory, str(tmp_path))


def test_a_bare_folder_with_open_clip_config_is_loaded_by_open_clip(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").touch()

    assert parse_name(str(tmp_path), "encoder").factory == "open_clip"
    assert parse_name(str(tmp_path), "captioner").factory == "open_clip"


@pytest.mark.parametrize("name", ["a:b", "model@v2", "hf:inner", "with space", "été"])
def test_a_folder_may_hold_any_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()

    assert parse_name(str(folder), "captioner").location == str(folder)
    assert parse_name(f"hf:{folder}", "captioner").location == str(folder)
    assert parse_name(f"hf:{folder}", "captioner").revision is None


def test_relative_and_home_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    for name in ("model", "./model", "hf:model", "~/model", f"model{os.sep}"):
        assert parse_name(name, "captioner").location == str(tmp_path / "model")


def test_local_dir_prefix_of_open_clip_is_understood(tmp_path: Path) -> None:
    assert parse_name(f"open_clip:local-dir:{tmp_path}", "encoder").location == str(tmp_path)


@pytest.mark.parametrize(
    "name", ["./nowhere", "~/nowhere", "/no/where", "hf:./nowhere", "hf:/no/where", "no/where"]
)
def test_a_folder_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder") as caught:
        parse_name(name, "captioner")

    assert caught.value.looked_in
    assert "where" in str(caught.value.looked_in)


def test_a_bare_hub_id_is_shown_how_to_write_it() -> None:
    with pytest.raises(ModelUnavailableError, match="hf:Salesforce/blip-image-captioning-base"):
        parse_name("Salesforce/blip-image-captioning-base", "captioner")


@pytest.mark.parametrize(("typed", "meant"), [("blip-bse", "blip-base"), ("blip_large", "blip-large")])
def test_a_mistyped_name_gets_the_near_miss(typed: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{meant}'"):
        parse_name(typed, "captioner")


def test_a_mistyped_factory_gets_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'open_clip'"):
        parse_name("openclip:ViT-B-32/openai", "encoder")


def test_a_name_of_another_kind_says_which() -> None:
    with pytest.raises(ConfigError, match="'clip-vit-b-32' is an encoder, not a captioner"):
        parse_name("clip-vit-b-32", "captioner")


@pytest.mark.parametrize("name", ["hf", "hf:"])
def test_a_factory_of_ours_needs_a_location(name: str) -> None:
    with pytest.raises(ConfigError, match="has no location"):
        parse_name(name, "captioner")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> str:
    """A stranger's captioner factory."""
    table = {name: (target, "autotag") for name, target in registry._BUILT_IN["captioner"].items()}
    table["mine"] = ("builtins:dict", "strangers")
    monkeypatch.setattr(registry, "_table", lambda kind: table)
    return "mine"


@pytest.mark.parametrize(
    ("name", "location", "revision"),
    [
        ("mine", "", None),
        ("mine:model", "model", None),
        ("mine:http://host/path", "http://host/path", None),
        ("mine:a/b@v2", "a/b", "v2"),
    ],
)
def test_a_plug_in_is_asked_for_what_the_user_wrote(
    plug_in: str, name: str, location: str, revision: str | None
) -> None:
    address = parse_name(name, "captioner")

    assert (address.factory, address.location, address.revision) == (plug_in, location, revision)
    assert address.folder is None


class HalfAnEncoder:
    id = "half"

    def embed_images(self, images: object) -> None:
        """Not much of an encoder."""


def test_an_object_that_does_not_fit_is_told_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="HalfAnEncoder object cannot be used as an encoder") as caught:
        check_model(HalfAnEncoder(), "encoder")

    assert "default_thresholds, embed_texts" in str(caught.value)


def test_a_checked_name_is_still_the_users_text_and_knows_its_address() -> None:
    name = check_model("blip-base", "captioner")

    for same in (name, copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
        assert (same, type(same)) == ("blip-base", ModelName)
        assert same.address == parse_name("blip-base", "captioner")


def test_a_checked_name_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="is a captioner, not an encoder"):
        check_model(check_model("blip-base", "captioner"), "encoder")


def test_a_model_object_is_returned_as_it_is() -> None:
    mine = FakeCaptioner()

    assert check_model(mine, "captioner") is mine


def test_a_class_in_place_of_an_object_is_refused() -> None:
    with pytest.raises(ConfigError, match="HalfAnEncoder is a class"):
        check_model(HalfAnEncoder, "encoder")


def test_a_bundled_model_is_present_when_its_folder_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = find_card("clip-mini", "encoder")
    assert card
    moved = cards.ModelCard(
        **{
            **{name: getattr(card, name) for name in card.__slots__},
            "source": f"open_clip:{tmp_path}",
        }
    )
    assert not cards.is_present(moved)

    (tmp_path / "open_clip_model.safetensors").touch()
    assert cards.is_present(moved)
    assert cards.download(moved) == tmp_path


def test_a_missing_bundled_folder_is_reported_by_download(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    card = cards.ModelCard("gone", "captioner", f"hf:{gone}", None, "none", 0, "nowhere")

    with pytest.raises(ModelUnavailableError, match="Install autotag again"):
        cards.download(card)


def test_names_are_looked_at_without_importing_torch() -> None:
    script = (
        "import sys\n"
        "from autotag.models import cards, names, pool\n"
        "from autotag.models.loading import device, hub, model_folders\n"
        "names.parse_name('blip-base', 'captioner')\n"
        "[cards.is_present(card) for card in cards.cards()]\n"
        "pool.ModelPool(encoder='clip-vit-b-32')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_plugin_called_like_a_model_of_the_catalog_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "plugins", lambda: [("captioner", "blip-mini", "strangers")])
    monkeypatch.setattr(registry, "import_string", lambda _kind, _name: "strange:load")
    with pytest.raises(
        DuplicateNameError, match=r"'blip-mini': autotag's catalog .* and strange:load \(strangers\)"
    ):
        parse_name("blip-mini", "captioner")
    assert parse_name("blip-base", "captioner").card is not None
