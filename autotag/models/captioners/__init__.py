"""Models that caption images, one file per family.

They are registered by name, and ``pool`` creates them. They may import ``models.fast``, ``models.loading``
and lower packages.
"""
