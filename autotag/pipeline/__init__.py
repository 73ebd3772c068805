"""The pipeline and its engine: order of stages, batches, reading ahead, presets, statistics.

``pipeline.Pipeline``, ``presets.load`` and ``function_stage.stage`` are for users. It may import ``models``,
``images`` and lower packages; stages are found by name, never imported.
"""
