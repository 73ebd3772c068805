"""An album's state in its folder ``.autotag``: ledger, journal, changes and their undo, identity.

This package does not use pipelines. Kinds of changes are registered, so that plug-ins can add some. May
import ``metadata``, ``images``, ``writers`` and what is below them.
"""
