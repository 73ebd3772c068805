"""Lists of labels: the class ``Vocabulary``, its file format, bundled lists, templates and broader terms.

``Vocabulary`` is for users. It may import ``language``, ``files`` and lower packages.
"""
