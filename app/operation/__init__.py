"""Keeping an installation: how its parts are, taking a copy of everything, and bringing one back.

Wiring rather than a domain: it may look into all of them, and none of them knows of it.
"""
