"""A server that tags images for other programs: the app, the native API, and the command's loop.

``core`` holds what every protocol needs (batcher, limits, inputs); ``protocols`` speaks the APIs of other
services; ``app`` puts them together. Needs the extra ``autotag-images[serve]``; the batcher alone does not.
"""
