"""An album's state in its folder ``.autotag``: ledger, journal, changes and their undo, identity.

Nothing here knows a pipeline. Kinds of changes are a registry, so that plug-ins bring their own. May import
``metadata``, ``images``, ``writers`` and what is below them.
"""
