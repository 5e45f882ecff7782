"""Measurements that are run by hand; each module says what it measures and prints what the docs show."""
