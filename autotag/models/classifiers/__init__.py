"""The classifiers that come with autotag: ``autotag.protocols.Classifier`` on transformers, timm and ONNX.

``heads`` says how logits become probabilities; ``tagger_labels`` reads the tables of taggers.
"""
