"""What every test may rely on."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of full-size weights are skipped, and say how to run them, unless ``-m`` asks for them."""
    if "weights" in config.getoption("-m"):
        return
    reason = "needs full-size weights from the model hub; run with: pytest -m weights"
    for item in items:
        if item.get_closest_marker("weights"):
            item.add_marker(pytest.mark.skip(reason=reason))
