"""Models that stages borrow. Besides ``autotag.training`` the only package that imports torch."""
