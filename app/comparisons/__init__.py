"""What is shown side by side, who is assigned to it, and how they judged.

A **comparison** is a prompt with two or more completions and as many **slots** as judgments are wanted. An
**assignment** leases a slot to one annotator; a **judgment** fills it. A judgment whose slot was filled
meanwhile is **surplus**: kept, but not counted. The slot table is what makes redundancy exact: a comparison
has exactly `redundancy` slots, a slot takes one judgment, a person one slot. Leans on generation and campaigns.
"""
