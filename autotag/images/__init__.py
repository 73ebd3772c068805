"""Find, read and decode images from paths, bytes or open files to upright RGB pixels, including RAW files.

``find_images`` and ``read_image`` of ``reading`` are for users. It may import ``web`` for URLs, ``files`` and
lower packages, but not ``models``.
"""
