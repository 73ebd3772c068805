"""Measuring captions and tags, and choosing thresholds, on photographs that people described.

``evaluate`` and ``calibration`` are for users. ``metrics`` holds one measure per file, ``report`` what is
printed and drawn. It may import ``albums``, ``stages``, ``pipeline`` and what is below them.
"""
