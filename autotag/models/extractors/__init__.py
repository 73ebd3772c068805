"""Models that find keyphrases in captions.

They are registered by name and made by ``pool``; they may import ``models.fast``, ``models.loading`` and what
is below.
"""
