"""The detectors that come with autotag: ``autotag.protocols.Detector`` on top of transformers and others.

``families`` chooses the class for a transformers model; ``found`` turns scores and boxes into detections.
"""
