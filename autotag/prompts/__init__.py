"""Prompts in the style of CLIP Interrogator: its modes, ranked phrases, and the scoring of prompt prefixes.

Stages and commands use it. It may import ``models`` and lower packages.
"""
