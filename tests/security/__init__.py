"""Attacks: each test tries to break a promise of docs/security.md, which names the test beside the promise.

The other rooms test that things work; this one, that they do not work for who means harm. It mirrors no single
domain, because attacks cross them.
"""
