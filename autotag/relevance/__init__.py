"""Relevance of words to an image: scores and their thresholds, vectors, label matrices cached on disk.

Stages, prompts and evaluation use it. It may import ``vocabularies`` and lower packages.
"""
