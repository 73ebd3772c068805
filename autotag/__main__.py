"""``python -m autotag``: the command ``autotag``, where the folder of scripts is not on the path."""

from __future__ import annotations

from autotag.cli.main import main

if __name__ == "__main__":
    main(prog_name="autotag")
