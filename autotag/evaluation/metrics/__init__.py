"""Measures of captions and tags, one per file, each with its paper.

Plain texts and numbers go in, numbers come out; nothing else of ``evaluation`` is imported.
"""
