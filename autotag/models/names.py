"""What autotag knows about models before loading them: no torch here.

A model is named by

- a catalog name: ``"blip-base"``;
- ``"<factory>:<location>"``: ``"hf:Salesforce/blip-image-captioning-base"``,
  ``"open_clip:ViT-B-32/laion2b_s34b_b79k"``, ``"keybert:sentence-transformers/all-MiniLM-L6-v2"``;
  ``@revision`` may follow a hub id;
- ``"remote:<URL>"``: a captioner behind a server (``RemoteCaptioner``);
- a folder on disk, which must not be called like a catalog name;
- the bare name of a plug-in's factory: ``"mine"``.

A location that is a folder is taken as one, whatever characters it holds; only then is ``@`` looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autotag import protocols, registry
from autotag.errors import ConfigError, ModelUnavailableError, UnknownNameError
from autotag.files.bounded_files import is_folder, named_path
from autotag.models.fast.fast_paths import AUTO, FastPaths
from autotag.protocols import ModelKind, ModelRequest
from autotag.relevance.scores import STANDARDISED_CUT

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_BRANCH = "main"
"""What is fetched of a hub repository when no revision is named."""

BUNDLED = Path(__file__).resolve().parent.parent / "data" / "models"

_BLIP = "BLIP, 129M image-text pairs, fine-tuned on COCO captions (Li et al. 2022, arXiv:2201.12086)"
_BLIP2 = "BLIP-2, 129M image-text pairs (Li et al. 2023, arXiv:2301.12597)"
_GIT = "GIT, 10M/20M image-text pairs, fine-tuned on COCO captions (Wang et al. 2022, arXiv:2205.14100)"
_FLORENCE = "Florence-2, 5.4B annotations of 126M images (Xiao et al. 2023, arXiv:2311.06242)"
_COCA = (
    "CoCa, 2B image-text pairs of LAION-5B, fine-tuned on COCO captions (Yu et al. 2022, arXiv:2205.01917)"
)
_CLIP = "CLIP, 400M image-text pairs by OpenAI (Radford et al. 2021, arXiv:2103.00020)"
_MINI_LICENCE = "non-commercial research only (see the LICENSE file beside the weights)"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts about published weights.

    Attributes:
        name: short name, unique over all kinds.
        kind: what it can be lent as.
        source: ``"<factory>:<location>"``; for bundled weights the location is a folder of this package.
        revision: commit, tag or branch on the hub.
        licence: SPDX id or words.
        download_size: bytes, rounded; 0 for bundled weights and for those behind a server.
        default_thresholds: score name -> the cut that suits this encoder. A cut for cosines alone is one that
            was fitted, and is what ``FilterTags`` then uses.
        origin: what it was trained by or on, one line, with its paper.
        hub_id: the hub repository that holds the weights; None for bundled weights and those behind a server.
    """

    name: str
    kind: ModelKind
    source: str
    revision: str | None
    licence: str
    download_size: int
    origin: str
    default_thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)
    hub_id: str | None = None

    @property
    def bundled(self) -> bool:
        """Whether the weights come with autotag."""
        return self.hub_id is None and not self.remote

    @property
    def remote(self) -> bool:
        """Whether it runs behind a server, and not in this process."""
        return self.factory == "remote"

    @property
    def factory(self) -> str:
        """The registered name of what loads it."""
        return self.source.partition(":")[0]

    @property
    def location(self) -> str:
        """What its factory is asked for."""
        return self.source.partition(":")[2]


def _hub_card(
    name: str,
    kind: ModelKind,
    source: str,
    licence: str,
    megabytes: int,
    *,
    origin: str,
    cosine: float | None = None,
    hub_id: str | None = None,
) -> ModelCard:
    """The card of weights on the hub's main branch."""
    return ModelCard(
        name=name,
        kind=kind,
        source=source,
        revision=HUB_BRANCH,
        licence=licence,
        download_size=megabytes * 1_000_000,
        origin=origin,
        default_thresholds={} if cosine is None else {"standardised": STANDARDISED_CUT, "cosine": cosine},
        hub_id=hub_id or source.partition(":")[2],
    )


def _bundled_card(
    name: str,
    kind: ModelKind,
    factory: str,
    origin: str,
    *,
    licence: str = _MINI_LICENCE,
    cosine: float | None = None,
) -> ModelCard:
    """The card of weights in this package."""
    return ModelCard(
        name=name,
        kind=kind,
        source=f"{factory}:{BUNDLED / name}",
        revision=None,
        licence=licence,
        download_size=0,
        origin=origin,
        default_thresholds={} if cosine is None else {"cosine": cosine},
    )


# Cosine cuts. Only clip-mini's is calibrated by this project. The others are starting points from practice:
# ViT-B/32: LAION kept pairs of image and sentence from 0.28-0.30; right tags of two words score lower: 0.22.
# ViT-L/14 (OpenAI): right labels near 0.25, wrong ones near 0.19 (openai/CLIP issue 405), so 0.20.
# SigLIP: cosines lie between about 0 and 0.17 (its logit scale and bias do the rest), so 0.05.
_CARDS: tuple[ModelCard, ...] = (
    _bundled_card("blip-mini", "captioner", "hf", "autotag's own small BLIP (autotag.training)"),
    _hub_card(
        "blip-base",
        "captioner",
        "hf:Salesforce/blip-image-captioning-base",
        "BSD-3-Clause",
        990,
        origin=_BLIP,
    ),
    _hub_card(
        "blip-large",
        "captioner",
        "hf:Salesforce/blip-image-captioning-large",
        "BSD-3-Clause",
        1_880,
        origin=_BLIP,
    ),
    _hub_card("blip2-opt-2.7b", "captioner", "hf:Salesforce/blip2-opt-2.7b", "MIT", 15_000, origin=_BLIP2),
    _hub_card(
        "blip2-flan-t5-xl", "captioner", "hf:Salesforce/blip2-flan-t5-xl", "MIT", 15_800, origin=_BLIP2
    ),
    _hub_card("git-base", "captioner", "hf:microsoft/git-base-coco", "MIT", 710, origin=_GIT),
    _hub_card("git-large", "captioner", "hf:microsoft/git-large-coco", "MIT", 1_580, origin=_GIT),
    _hub_card(
        "coca-b",
        "captioner",
        "open_clip:coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
        "MIT",
        1_014,
        origin=_COCA,
        hub_id="laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k",
    ),
    _hub_card(
        "coca-l",
        "captioner",
        "open_clip:coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
        "MIT",
        2_554,
        origin=_COCA,
        hub_id="laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
    ),
    _hub_card(  # of microsoft's own repositories the code came with the weights, for older transformers
        "florence-2-base",
        "captioner",
        "hf:florence-community/Florence-2-base",
        "MIT",
        465,
        origin=_FLORENCE,
    ),
    _hub_card(
        "florence-2-large",
        "captioner",
        "hf:florence-community/Florence-2-large",
        "MIT",
        1_540,
        origin=_FLORENCE,
    ),
    _hub_card(
        "vit-gpt2",
        "captioner",
        "hf:nlpconnect/vit-gpt2-image-captioning",
        "Apache-2.0",
        982,
        origin="ViT and GPT-2, fine-tuned together on COCO captions (NLP Connect 2022, doi:10.57967/hf/0222)",
    ),
    _hub_card(
        "smolvlm",
        "captioner",
        "hf:HuggingFaceTB/SmolVLM-256M-Instruct",
        "Apache-2.0",
        513,
        origin="SmolVLM, a chat model of 256M parameters (Marafioti et al. 2025, arXiv:2504.05299)",
    ),
    _hub_card(
        "qwen2.5-vl-3b",
        "captioner",
        "hf:Qwen/Qwen2.5-VL-3B-Instruct",
        "Qwen Research License (non-commercial)",
        7_510,
        origin="Qwen2.5-VL, a chat model of 3B parameters (Bai et al. 2025, arXiv:2502.13923)",
    ),
    ModelCard(
        "ofa",
        "captioner",
        source="remote:http://127.0.0.1:8118/caption",
        revision=None,
        licence="Apache-2.0",
        download_size=0,
        origin="OFA behind a server of your own (Wang et al. 2022, arXiv:2202.03052)",
    ),
    _bundled_card(
        "clip-mini", "encoder", "open_clip", "autotag's own small CLIP (autotag.training)", cosine=0.105
    ),
    _hub_card(
        "clip-vit-b-32",
        "encoder",
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "MIT",
        605,
        origin="OpenCLIP, 2B image-text pairs of LAION-5B (Cherti et al. 2022, arXiv:2212.07143)",
        cosine=0.22,
        hub_id="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    ),
    _hub_card(
        "clip-vit-l-14",
        "encoder",
        "open_clip:ViT-L-14/openai",
        "MIT",
        1_710,
        origin=_CLIP,
        cosine=0.2,
        hub_id="timm/vit_large_patch14_clip_224.openai",
    ),
    _hub_card(
        "clip-vit-b-32-openai",
        "encoder",
        "hf:openai/clip-vit-base-patch32",
        "MIT",
        605,
        origin=_CLIP,
        cosine=0.22,
    ),
    _hub_card(
        "siglip-base",
        "encoder",
        "hf:google/siglip-base-patch16-224",
        "Apache-2.0",
        815,
        origin="SigLIP, WebLI image-text pairs (Zhai et al. 2023, arXiv:2303.15343)",
        cosine=0.05,
    ),
    _bundled_card(
        "minilm-mini",
        "extractor",
        "keybert",
        "word vectors distilled from all-MiniLM-L6-v2 (autotag.training)",
        licence="Apache-2.0",
    ),
    _hub_card(
        "minilm",
        "extractor",
        "keybert:sentence-transformers/all-MiniLM-L6-v2",
        "Apache-2.0",
        91,
        origin="MiniLM (Wang et al. 2020, arXiv:2002.10957), fine-tuned on 1B sentence pairs",
    ),
)


def cards() -> tuple[ModelCard, ...]:
    """Every card, by kind, bundled ones first."""
    return _CARDS


def find_card(name: str, kind: ModelKind) -> ModelCard | None:
    """The card of this name and kind, or None."""
    return next((card for card in _CARDS if card.name == name and card.kind == kind), None)


def is_present(card: ModelCard) -> bool:
    """Whether nothing needs to be fetched: bundled, whole in the hub's cache, or behind a server."""
    from autotag.models.loading import hub
    from autotag.models.loading import model_folders as folders

    if card.remote:
        return True
    needs = folders.needs_of(card.factory)
    if card.hub_id is None:
        folder = Path(card.location)
        return folder.is_dir() and not folders.missing_parts(folder, needs)
    return hub.cached_folder(card.hub_id, card.revision, needs) is not None


def download(card: ModelCard) -> Path:
    """Fetches the weights, showing progress on stderr, and answers the folder that holds them.

    What the hub's cache already holds is not fetched again; a branch that moved on is.

    Raises:
        ModelUnavailableError: the hub cannot be reached, bundled weights are missing, or the weights are
            behind a server.
    """
    from autotag.models.loading import hub
    from autotag.models.loading import model_folders as folders

    if card.remote:
        raise ModelUnavailableError(card.name, f"{card.name!r} runs behind {card.location}: no download")
    if card.hub_id is None:
        folder = Path(card.location)
        if not folder.is_dir():
            raise ModelUnavailableError(card.name, _no_bundled_folder(card.name, folder), looked_in=folder)
        return folder
    return hub.download(
        card.name,
        card.kind,
        card.hub_id,
        card.revision,
        folders.needs_of(card.factory),
        download_size=card.download_size,
    )


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """A model's name, taken apart.

    Attributes:
        name: the card's name when the catalog knows the model, else as the user wrote it.
        kind: what it is lent as.
        factory: the registered name of what loads it.
        location: hub id, open_clip name or absolute folder; empty for a bare factory name.
        revision: on the hub; None for a folder, or a plug-in's location without one.
        card: what the catalog knows, if anything.
    """

    name: str
    kind: ModelKind
    factory: str
    location: str
    revision: str | None = None
    card: ModelCard | None = None

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """The same for two names of one model."""
        return self.kind, self.factory, self.location, self.revision

    def request(self, device: str, dtype: str, fast_paths: FastPaths = AUTO) -> ModelRequest:
        """Return what the factory is called with."""
        return ModelRequest(
            name=self.name,
            location=self.location,
            revision=self.revision,
            device=device,
            dtype=dtype,
            default_thresholds=dict(self.card.default_thresholds) if self.card else {},
            download_size=self.card.download_size if self.card else None,
            fast_paths=fast_paths,
        )


def parse_name(name: str, kind: ModelKind) -> ModelAddress:
    """Takes a model's name apart, as far as that goes without loading anything.

    Raises:
        UnknownNameError: no such catalog name or factory.
        ModelUnavailableError: it names a folder that does not exist.
        ConfigError: the name is of another kind of model, or says too little.
    """
    card = find_card(name, kind)
    if card is not None:
        return ModelAddress(name, kind, card.factory, card.location, card.revision, card)
    folder = named_path(name)
    if name and is_folder(folder):
        return _located(name, kind, _folder_factory(name, kind, folder), name)
    factory, colon, location = name.partition(":")
    if colon and factory in registry.names(kind):
        return _located(name, kind, factory, location)
    if name in registry.names(kind):
        return _bare(name, kind)
    raise _refusal(name, kind)


def check_model(model: object, kind: ModelKind) -> None:
    """Refuses, before anything is loaded, what ``ModelPool`` would refuse to lend.

    Raises:
        ConfigError: a name that ``parse_name`` refuses (also ``ModelUnavailableError``), or an object
            that is no such model; the message says what it lacks.
    """
    if isinstance(model, str):
        parse_name(model, kind)
        return
    if isinstance(model, type):
        raise ConfigError(f"{model.__name__} is a class; hand in an object of it as the {kind}")
    lacking = [attribute for attribute in _attributes(kind) if not hasattr(model, attribute)]
    if lacking:
        raise ConfigError(
            f"{type(model).__name__} object cannot be used as {_article(kind)}: "
            f"it has no {', '.join(lacking)} (see autotag.protocols.{PROTOCOLS[kind].__name__})"
        )


PROTOCOLS: dict[ModelKind, type] = {
    "captioner": protocols.Captioner,
    "extractor": protocols.KeyphraseExtractor,
    "encoder": protocols.ImageTextEncoder,
    "detector": protocols.Detector,
}
"""What a model of each kind has to look like."""
_OWN_FACTORIES = ("hf", "open_clip", "keybert")
_HUB_NAME = re.compile(r"(?P<id>(?:hf-hub:)?[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[\w./-]+)")
_FACTORY_NAME = re.compile(r"[A-Za-z]\w+")


def _attributes(kind: ModelKind) -> list[str]:
    return [attribute for attribute in vars(PROTOCOLS[kind]) if not attribute.startswith("_")]


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _folder_factory(name: str, kind: ModelKind, folder: Path) -> str:
    """What loads a folder that stands alone."""
    if kind in {"captioner", "encoder"}:
        return "open_clip" if (folder / "open_clip_config.json").is_file() else "hf"
    if kind == "extractor":
        return "keybert"
    raise ConfigError(f"folder {name!r}: say what loads it, as '<factory>:{name}'")


def _located(name: str, kind: ModelKind, factory: str, location: str) -> ModelAddress:
    """The address of ``factory:location``."""
    if not location:
        what = "URL" if factory == "remote" else "hub id or folder"
        raise ConfigError(f"{kind} {name!r} says no location; write '{factory}:<{what}>'")
    folder = named_path(location.removeprefix("local-dir:"))
    if is_folder(folder):
        return _known(ModelAddress(name, kind, factory, str(folder.resolve())))
    if factory in _OWN_FACTORIES and looks_like_folder(location):
        raise ModelUnavailableError(name, f"{kind} {name!r}: there is no folder {folder}", looked_in=folder)
    if factory == "remote":
        _check_remote(location)
    match = _HUB_NAME.fullmatch(location)
    if match:
        return _known(ModelAddress(name, kind, factory, match["id"], match["revision"]))
    revision = HUB_BRANCH if factory in _OWN_FACTORIES else None
    return _known(ModelAddress(name, kind, factory, location, revision))


def _check_remote(location: str) -> None:
    """Refuses an address that no request could be sent to."""
    from autotag.models.captioners.remote_captioner import RemoteCaptioner

    RemoteCaptioner.at(location)


def _known(address: ModelAddress) -> ModelAddress:
    """The address with its card, when the catalog has one for this location and revision."""
    for card in _CARDS:
        same = (card.kind, card.factory, card.location) == (address.kind, address.factory, address.location)
        if same and address.revision == card.revision:
            return ModelAddress(card.name, card.kind, card.factory, card.location, card.revision, card)
    return address


def _bare(name: str, kind: ModelKind) -> ModelAddress:
    """The address of a factory that was named without a location."""
    if name == "remote":
        raise ConfigError(f"{kind} {name!r} says no location; write 'remote:<URL>'")
    if name in _OWN_FACTORIES:
        raise ConfigError(f"{kind} {name!r} says no location; write '{name}:<hub id or folder>'")
    return ModelAddress(name, kind, name, "")


def looks_like_folder(location: str) -> bool:
    """Whether this can only mean a folder: no hub id or open_clip name is written like it."""
    return (
        location.startswith((".", "~", "/", "local-dir:"))
        or "\\" in location
        or Path(location).is_absolute()
        or location.count("/") > 1
    )


def _refusal(name: str, kind: ModelKind) -> Exception:
    """Why a name is refused that is no card, folder or factory."""
    other = next((card for card in _CARDS if card.name == name), None)
    if other is not None:
        return ConfigError(f"{name!r} is {_article(other.kind)}, not {_article(kind)}")
    factory, colon, _ = name.partition(":")
    if colon and _FACTORY_NAME.fullmatch(factory):
        return UnknownNameError(f"{kind} factory", factory, registry.names(kind))
    if "/" in name or looks_like_folder(name):
        folder = named_path(name)
        hint = "" if looks_like_folder(name) else f"; for a model of the hub write 'hf:{name}'"
        return ModelUnavailableError(
            name, f"{kind} {name!r}: there is no folder {folder}{hint}", looked_in=folder
        )
    known = (*(card.name for card in _CARDS if card.kind == kind), *registry.names(kind))
    return UnknownNameError(kind, name, known)


def _no_bundled_folder(name: str, folder: Path) -> str:
    return f"the bundled model {name!r} is missing: there is no folder {folder}. Install autotag again."
