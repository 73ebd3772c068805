"""autotag turns images into tags."""
