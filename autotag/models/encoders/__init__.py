"""Models that embed images and texts in one vector space.

They are registered by name, and ``pool`` creates them. They may import ``models.fast``, ``models.loading``
and lower packages.
"""
