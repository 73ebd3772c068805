"""From a path, bytes or an open file to upright RGB pixels: finding, reading, decoding, colours, raw files.

``find_images`` and ``read_image`` of ``reading`` are for users. It may import ``web`` for URLs, ``files`` and
what is below; no model is known here.
"""
