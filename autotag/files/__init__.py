"""Files in general: replacing one so that nothing is lost, bounded reading, folders of the user, TOML files.

Everything above may import it; it imports only ``errors`` and ``checks``.
"""
