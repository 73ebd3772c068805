"""Reports of an evaluation: text for a terminal, an HTML page with charts for a browser.

It formats finished results; of ``evaluation`` it imports only ``metrics``.
"""
