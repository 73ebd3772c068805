"""What an album remembers in its folder ``.autotag``: ledger, journal, changes and their undoing, identity.

Nothing here knows a pipeline. Kinds of changes are a registry, so that plug-ins bring their own. May import
``metadata``, ``images``, ``writers`` and what is below them.
"""
