"""Finds, downloads and loads weights: hub, folders, transformers, open_clip, devices.

It does not import other packages of ``models``.
"""
