"""The registry of names and their import strings, for built-in parts and plug-ins alike.

A plug-in package adds entry points to one of the groups ``autotag.stages``, ``autotag.captioners``,
``autotag.extractors``, ``autotag.encoders``, ``autotag.detectors``, ``autotag.classifiers``,
``autotag.translators``, ``autotag.writers``, ``autotag.album_writers``, ``autotag.changes`` or
``autotag.stores``. A part is imported when it is first used by name.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from autotag.errors import ConfigError, DuplicateNameError, UnknownNameError

Kind = Literal[
    "stage",
    "captioner",
    "extractor",
    "encoder",
    "detector",
    "classifier",
    "translator",
    "writer",
    "album_writer",
    "change",
    "store",
]

_OURS = "autotag"
_BUILT_IN: dict[Kind, dict[str, str]] = {
    "stage": {
        "caption_images": "autotag.stages.caption_images:CaptionImages",
        "classify_images": "autotag.stages.classify_images:ClassifyImages",
        "detect_objects": "autotag.stages.detect_objects:DetectObjects",
        "choose_caption": "autotag.stages.choose_caption:ChooseCaption",
        "embed_images": "autotag.stages.embed_images:EmbedImages",
        "extract_keyphrases": "autotag.stages.extract_keyphrases:ExtractKeyphrases",
        "match_vocabulary": "autotag.stages.match_vocabulary:MatchVocabulary",
        "merge_tags": "autotag.stages.merge_tags:MergeTags",
        "filter_tags": "autotag.stages.filter_tags:FilterTags",
        "suggest_keywords": "autotag.stages.suggest_keywords:SuggestKeywords",
        "name_tags": "autotag.stages.name_tags:NameTags",
        "rank_labels": "autotag.stages.rank_labels:RankLabels",
        "tag_regions": "autotag.stages.tag_regions:TagRegions",
        "moderate_images": "autotag.stages.moderate_images:ModerateImages",
        "translate_captions": "autotag.stages.translate_captions:TranslateCaptions",
        "assemble_prompt": "autotag.stages.assemble_prompt:AssemblePrompt",
    },
    "captioner": {
        "hf": "autotag.models.captioners.families:load",
        "open_clip": "autotag.models.captioners.coca_captioner:CocaCaptioner.load",
        "remote": "autotag.models.captioners.remote_captioner:RemoteCaptioner.load",
    },
    "extractor": {"keybert": "autotag.models.extractors.keybert_extractor:KeybertExtractor.load"},
    "encoder": {
        "hf": "autotag.models.encoders.hf_encoder:HfEncoder.load",
        "open_clip": "autotag.models.encoders.openclip_encoder:OpenClipEncoder.load",
    },
    "detector": {
        "class_activation": "autotag.models.detectors.class_activation_detector:ClassActivationDetector.load",
        "hf": "autotag.models.detectors.families:load",
        "onnx": "autotag.models.detectors.onnx_detector:OnnxDetector.load",
        "yolo": "autotag.models.detectors.yolo_detector:YoloDetector.load",
    },
    "classifier": {
        "hf": "autotag.models.classifiers.hf_classifier:load",
        "learned": "autotag.models.classifiers.keyword_classifier:KeywordClassifier.load",
        "onnx": "autotag.models.classifiers.onnx_tagger:OnnxTagger.load",
        "opennsfw": "autotag.models.classifiers.opennsfw_classifier:OpenNsfwClassifier.load",
        "timm": "autotag.models.classifiers.timm_classifier:load",
    },
    "translator": {"hf": "autotag.models.translators.hf_translator:HfTranslator.load"},
    "writer": {
        "coco": "autotag.writers.coco_writer:CocoWriter",
        "csv": "autotag.writers.csv_writer:CsvWriter",
        "json": "autotag.writers.json_writer:JsonWriter",
        "jsonl": "autotag.writers.jsonl_writer:JsonlWriter",
        "parquet": "autotag.writers.parquet_writer:ParquetWriter",
        "table": "autotag.writers.table_writer:TableWriter",
    },
    "album_writer": {
        "rename": "autotag.albums.writers.rename_writer:RenameWriter",
        "txt": "autotag.albums.writers.text_writer:TextWriter",
        "xmp": "autotag.albums.writers.xmp_writer:XmpWriter",
    },
    "change": {
        "metadata": "autotag.albums.writers.xmp_writer:XmpChange",
        "output": "autotag.albums.state.changes:OutputChange",
        "rename": "autotag.albums.state.renaming:RenameChange",
        "text": "autotag.albums.state.changes:TextChange",
    },
    "store": {
        "postgres": "autotag.search.stores.postgres:PostgresStore.open",
        "postgresql": "autotag.search.stores.postgres:PostgresStore.open",
        "qdrant": "autotag.search.stores.qdrant:QdrantStore.open",
        "qdrant+https": "autotag.search.stores.qdrant:QdrantStore.open",
    },
}


@cache
def _table(kind: Kind) -> dict[str, tuple[str, str]]:
    """Return name -> import string and package of one kind, built-in and from installed packages."""
    table = {name: (target, _OURS) for name, target in _BUILT_IN[kind].items()}
    for entry in entry_points(group=f"autotag.{kind}s"):
        package = entry.dist.name if entry.dist else "an unnamed package"
        target, owner = table.setdefault(entry.name, (entry.value, package))
        if target != entry.value:
            raise DuplicateNameError(kind, entry.name, (f"{target} ({owner})", f"{entry.value} ({package})"))
    return table


def names(kind: Kind) -> tuple[str, ...]:
    """Return the registered names of a kind, sorted."""
    return tuple(sorted(_table(kind)))


def import_string(kind: Kind, name: str) -> str:
    """Return the import string of a name, as ``"package.module:attribute"``.

    Raises:
        UnknownNameError: the name is not registered.
    """
    table = _table(kind)
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name][0]


def plugins() -> list[tuple[Kind, str, str]]:
    """Return kind, name and package of every part that other installed packages bring, without importing it.

    Raises:
        DuplicateNameError: two packages register one name.
    """
    return [
        (kind, name, package)
        for kind in _BUILT_IN
        for name, (_, package) in sorted(_table(kind).items())
        if package != _OURS
    ]


def resolve(kind: Kind, name: str) -> Any:
    """Return the class or factory registered under a name.

    Raises:
        UnknownNameError: the name is not registered.
        ConfigError: its import string cannot be imported.
    """
    return load(import_string(kind, name), what=f"{kind} {name!r}, registered")


def load(reference: str, *, what: str) -> Any:
    """Import and return the object that ``"package.module:attribute"`` names.

    Args:
        reference: the import string.
        what: a description of the object, for the message.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = reference.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # the import of an extension turns Ctrl-C into an ImportError
        raise ConfigError(f"{what} as {reference!r}, cannot be imported: {error}") from error
    return found
