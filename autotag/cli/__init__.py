"""The command ``autotag``: ``main`` and one file per command.

Nothing imports it. A command reads its options, calls the package that does the work, and prints.
"""
