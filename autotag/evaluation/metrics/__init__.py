"""Measures of captions and tags: one measure per file, each with its paper.

The functions take plain texts and arrays and return numbers; they import nothing else of ``evaluation``.
"""
