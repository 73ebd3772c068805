"""Models that find keyphrases in captions.

They are registered by name, and ``pool`` creates them. They may import ``models.fast``, ``models.loading``
and lower packages.
"""
