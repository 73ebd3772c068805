"""HTTP: exchanges with a deadline and a size limit, and images fetched from public addresses only.

It imports ``errors`` and ``checks`` only.
"""
