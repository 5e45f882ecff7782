"""Prompts, and the completions that models, people and imports give for them.

A **prompt** belongs to a campaign and to one **split** for ever (a hash of its normalised text decides); a
**completion** is one text for one prompt with all that is known of how it came about; an **import** is one
file taken in, with every bad line and its reason. Leans on campaigns and deployments.
"""
