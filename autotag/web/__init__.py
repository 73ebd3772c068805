"""HTTP requests with a deadline and a size limit, images from public addresses only, who may ask a server.

It imports only ``errors``.
"""
