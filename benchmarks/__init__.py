"""Benchmarks: each answers one written question."""
