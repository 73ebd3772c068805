"""Database servers that keep photographs and vectors: Postgres with pgvector, and Qdrant.

``autotag.search.open_store`` finds them by the scheme of a URL. It may import ``autotag.search``.
"""
