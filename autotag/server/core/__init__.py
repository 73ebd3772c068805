"""What every protocol of the server needs: batcher, tagger, limits, inputs, answers, metrics.

``tagger`` and ``batcher`` work without HTTP (``autotag.serve_async``). Nothing else of ``server`` is imported
here.
"""
