"""English for captions: singular and plural, content words, noun phrases.

``english`` and ``phrases`` are public: plug-ins may import them. They may import ``errors`` only.
"""
