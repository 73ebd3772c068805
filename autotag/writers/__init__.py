"""Results as text and rows: CSV, JSON, JSON lines, Parquet, tables. One file per writer.

They are registered by name. They may import ``records``, ``protocols``, ``files`` and what is below.
"""
