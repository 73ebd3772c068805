"""The report of an evaluation: text for a terminal, a page with charts for a browser.

It is given numbers and imports ``evaluation.metrics`` at most.
"""
