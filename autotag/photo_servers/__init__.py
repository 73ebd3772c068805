"""Tagging the photographs of a photo server through its own API: the client, what was done, the run.

A server that asks autotag for tags is served by ``autotag.server``; here autotag is the one who asks.
"""
