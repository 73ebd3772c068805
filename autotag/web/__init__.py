"""HTTP requests with a deadline and a size limit, and images fetched from public addresses only.

It may import ``errors`` and ``checks`` only.
"""
