"""The stages that come with autotag, one per file.

Presets name them and ``registry`` finds them; no stage imports another. They may import ``pipeline``,
``prompts``, ``models`` and lower packages.
"""

from autotag.stages.assemble_prompt import AssemblePrompt
from autotag.stages.caption_images import CaptionImages
from autotag.stages.choose_caption import ChooseCaption
from autotag.stages.classify_images import ClassifyImages
from autotag.stages.detect_objects import DetectObjects
from autotag.stages.embed_images import EmbedImages
from autotag.stages.extract_keyphrases import ExtractKeyphrases
from autotag.stages.filter_tags import FilterTags
from autotag.stages.match_vocabulary import MatchVocabulary
from autotag.stages.merge_tags import MergeTags
from autotag.stages.moderate_images import ModerateImages
from autotag.stages.name_tags import NameTags
from autotag.stages.rank_labels import RankLabels
from autotag.stages.suggest_keywords import SuggestKeywords
from autotag.stages.tag_regions import TagRegions
from autotag.stages.translate_captions import TranslateCaptions

__all__ = [
    "AssemblePrompt",
    "CaptionImages",
    "ChooseCaption",
    "ClassifyImages",
    "DetectObjects",
    "EmbedImages",
    "ExtractKeyphrases",
    "FilterTags",
    "MatchVocabulary",
    "MergeTags",
    "ModerateImages",
    "NameTags",
    "RankLabels",
    "SuggestKeywords",
    "TagRegions",
    "TranslateCaptions",
]
