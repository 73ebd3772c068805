"""Run one pipeline on many machines: shards of one run, and a callable for batches of rows.

``BatchTagger`` and ``ShardWriter`` are for users. It may import ``pipeline``, ``writers`` and lower packages.
"""
