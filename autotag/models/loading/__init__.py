"""From a name to weights on a device: hub, folders, transformers, open_clip, devices.

It imports nothing else of ``models``.
"""
