"""Judges captioners and taggers: metrics, each with its source, intervals, and a report."""
