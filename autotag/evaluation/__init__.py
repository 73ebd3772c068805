"""Measures captions and tags, and chooses thresholds, on images with human captions or labels.

``evaluate`` and ``calibration`` are for users. ``metrics`` holds one measure per file, ``report`` the printed
and drawn reports. It may import ``albums``, ``stages``, ``pipeline`` and the rooms below them.
"""
