"""Writers of results: CSV, JSON, JSON Lines, Parquet, tables. One file per writer.

They are registered by name. They may import ``records``, ``protocols``, ``files`` and lower packages.
"""
