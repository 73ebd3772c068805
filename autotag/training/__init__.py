"""Training: the recipe of the bundled mini models, and fine-tuning on one's own captioned folder.

``python -m autotag.training --help`` lists the commands. Needs the extra ``autotag-images[train]``.
"""
