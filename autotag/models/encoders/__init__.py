"""Models that place images and texts in one space of vectors.

They are registered by name and made by ``pool``; they may import ``models.fast``, ``models.loading`` and what
is below.
"""
