"""Builds the API reference from signatures and docstrings. Run: python docs/build_reference.py [FOLDER]

Needs the extra ``docs`` (pdoc). FOLDER is ``build/reference`` by default.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PUBLIC = (
    "autotag",
    "autotag.errors",
    "autotag.evaluation",
    "autotag.protocols",
    "autotag.records",
    "autotag.stages",
    "autotag.testing",
    "autotag.training",
)
"""The modules that users and plug-ins may import from."""
WHOLE = ("autotag.evaluation", "autotag.training")
"""Packages whose modules are all public, too."""


def build(folder: Path) -> list[str]:
    """Write one page per public module, with a search, and return the modules' names."""
    import pdoc
    import pdoc.render

    import autotag

    vars(autotag)["__version__"] = autotag.__version__  # pdoc looks for it without asking the module
    specs = ["autotag", r"!autotag\..+"]
    for name in PUBLIC[1:]:
        specs += [name] if name in WHOLE else [name, rf"!{re.escape(name)}\..+"]
    pdoc.render.configure(docformat="google", show_source=False, footer_text="autotag")
    pdoc.pdoc(*specs, output_directory=folder)
    return list(pdoc.extract.walk_specs(specs))


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/reference")
    print(f"{len(build(target))} modules: {target / 'autotag.html'}")
