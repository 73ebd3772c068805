"""Fast paths: each returns the same result as the library call that it replaces.

``autotag.fast_paths`` says which are on. Models import them; they import ``models.loading`` at most. Each has
a figure of its own in docs/performance.md.
"""
