"""A server that tags images for other programs; needs ``autotag[serve]``, its batcher does not."""
