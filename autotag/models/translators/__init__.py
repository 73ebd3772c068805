"""Models that translate texts.

They are registered by name, and ``pool`` creates them. They may import ``models.loading`` and lower packages.
"""
