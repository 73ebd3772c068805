"""How well words fit an image: scores and their thresholds, vectors, label matrices kept on disk.

Stages, prompts and evaluation use it. It may import ``vocabularies`` and what is below.
"""
