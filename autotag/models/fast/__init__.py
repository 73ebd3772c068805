"""Fast paths: each returns the same result as the library call that it replaces.

``autotag.config.fast_paths`` holds which are on. Models import them; of ``models`` they import only
``loading``. docs/performance.md gives the measured gain of each.
"""
