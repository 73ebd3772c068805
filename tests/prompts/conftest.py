"""The folders of tiny models that tests of models have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "autotag_models_conftest", Path(__file__).parents[1] / "models" / "conftest.py"
)
assert _spec
assert _spec.loader
_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_models)

tiny, tiny_folder = _models.tiny, _models.tiny_folder
_any_dtype = _models._any_dtype
