"""English as far as captions need it: singular and plural, content words, noun phrases.

``english`` and ``phrases`` are public: plug-ins may import them. They import nothing but word lists.
"""
