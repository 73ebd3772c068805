"""Translators of transformers: Marian, as of OPUS-MT, and M2M100."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers

from autotag.errors import ConfigError, install_hint, suggestion
from autotag.models.loading.model_folders import TRANSLATOR
from autotag.models.loading.transformers_loading import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from autotag.protocols import ModelRequest, TranslationOptions

CLASSES = {"marian": "MarianMTModel", "m2m_100": "M2M100ForConditionalGeneration"}


class HfTranslator:
    """Translate texts with a MarianMTModel or an M2M100ForConditionalGeneration.

    M2M100 (Fan et al. 2020, arXiv:2010.11125) translates between any two of its languages. A model of OPUS-MT
    (Tiedemann and Thottingal 2020) translates from one language, or group, to another. If its target is a
    group, its vocabulary has a token for each language, such as ``>>fr<<`` or ``>>deu<<``.

    Args:
        model: the model, in eval mode, on its device.
        tokenizer: its MarianTokenizer or M2M100Tokenizer.
        name: the model's name, for messages.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> HfTranslator:
        """Load the translator from a folder or hub repository.

        Raises:
            ConfigError: it is a Marian model, and sacremoses is not installed.
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, or of another class.
        """
        model, tokenizer, _ = load_pretrained(
            request, "translator", CLASSES, load_processor=_tokenizer, needs=TRANSLATOR
        )
        model.generation_config.max_length = None  # else each call warns that max_new_tokens comes first
        return cls(model, tokenizer, request.name)

    def check_languages(self, options: TranslationOptions, /) -> None:
        """Refuse languages that the model does not translate.

        Raises:
            ConfigError: names the language, and the languages that the model knows.
        """
        if isinstance(self.tokenizer, transformers.M2M100Tokenizer):
            for language in (options.source, options.target):
                self._check_known(language, self.tokenizer.lang_code_to_id)
            return
        several = self._target_tokens()
        if several:
            self._check_known(options.target, several)
        for side, asked, own in (
            ("from", options.source, self.tokenizer.source_lang),
            ("to", options.target, None if several else self.tokenizer.target_lang),
        ):
            if own and own != asked:
                raise ConfigError(
                    f"translator {self.name!r} translates {side} {own!r}, not {side} {asked!r}; choose "
                    "another model, or the code that it uses."
                )

    def translate(self, texts: Sequence[str], /, options: TranslationOptions) -> list[str]:
        """Return each text in the target language; what a model cannot read or write at once is cut.

        Raises:
            ConfigError: see ``check_languages``.
        """
        self.check_languages(options)
        if not texts:
            return []
        begin: dict[str, Any] = {}
        positions = self.model.config.max_position_embeddings
        given = list(texts)
        if isinstance(self.tokenizer, transformers.M2M100Tokenizer):
            self.tokenizer.src_lang = options.source
            begin["forced_bos_token_id"] = self.tokenizer.get_lang_id(options.target)
        elif token := self._target_tokens().get(options.target):
            given = [f"{token} {text}" for text in given]
        inputs = self.tokenizer(
            given,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=positions,
        ).to(self.model.device)
        with torch.inference_mode():
            tokens = self.model.generate(
                **inputs,
                **begin,
                do_sample=False,
                num_beams=options.num_beams,
                max_new_tokens=min(options.max_new_tokens, positions - 2),  # a start token, and a language's
            )
        own = tokens[
            :, 1 + len(begin) :
        ]  # not every tokenizer of M2M100 knows its language tokens as special
        written: list[str] = self.tokenizer.batch_decode(own, skip_special_tokens=True)
        return [" ".join(text.split()) for text in written]

    def _target_tokens(self) -> dict[str, str]:
        """Return language -> its token in a Marian vocabulary with several targets; empty for one target."""
        return {token[2:-2]: token for token in self.tokenizer.supported_language_codes}

    def _check_known(self, language: str, known: Collection[str]) -> None:
        if language not in known:
            near = suggestion(language, known)
            raise ConfigError(f"translator {self.name!r} does not know the language {language!r}. {near}")


def _tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a model's folder.

    Raises:
        ConfigError: it is that of Marian, which needs sacremoses to normalise punctuation as in training.
    """
    if (folder / "source.spm").is_file():
        try:
            import sacremoses  # noqa: F401 - transformers would only warn, and translate otherwise
        except ImportError as error:
            raise ConfigError(
                f"translators of OPUS-MT need sacremoses: {install_hint('translate')}"
            ) from error
        return transformers.MarianTokenizer.from_pretrained(folder, local_files_only=True)
    return transformers.M2M100Tokenizer.from_pretrained(folder, local_files_only=True)
