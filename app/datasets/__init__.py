"""Frozen datasets: **snapshots** of judgments under a recorded policy, and the formats they leave and enter in.

A snapshot is written once, hashed, and never changes; the same policy over the same judgments gives the same
hash of rows. Leans on comparisons, generation and deployments.
"""
