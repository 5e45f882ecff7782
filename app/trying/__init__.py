"""Trying models: a conversation with one version, or with two side by side. Nothing of it is stored.

The conversation travels with the form. Leans on training, which says who may see which line.
"""
