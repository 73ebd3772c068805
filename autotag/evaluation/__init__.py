"""Measures of how good captions and tags are: pure functions, each with its source."""
