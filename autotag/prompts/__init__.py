"""Prompts in the manner of CLIP Interrogator: its modes, ranked phrases, and the search that scores prefixes.

Stages and commands use it. It may import ``models`` and what is below.
"""
