"""File handling: safe replacement of files, bounded reading, user folders, TOML files.

Every room above may import this one; it imports only ``errors``.
"""
