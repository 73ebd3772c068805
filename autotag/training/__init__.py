"""Training: the recipe of the bundled mini models, and fine-tuning on a folder of captioned images.

``python -m autotag.training --help`` lists the commands. Needs the extra ``autotag-images[train]``.
"""
