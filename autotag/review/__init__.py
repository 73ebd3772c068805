"""The review of an album by a person: a page in the browser, and the endpoints that it uses.

A review works on a plan (``autotag.albums.plan``): ``table`` holds its tags in columns, ``decisions`` says
what a person can decide and keeps it in a file, ``session`` brings both together, ``applying`` hands the
edited plan to ``autotag.albums.apply_plan``. ``app`` and ``endpoints`` speak HTTP; ``static`` is the page.
Needs the extra ``autotag-images[serve]``.
"""
