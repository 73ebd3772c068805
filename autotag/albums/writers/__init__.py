"""Writers that change photographs or put files beside them: XMP, text files, new names.

They plan changes; ``albums`` journals and makes them. They may import ``albums.state``,
``metadata`` and what is below, not the rest of ``albums``.
"""
