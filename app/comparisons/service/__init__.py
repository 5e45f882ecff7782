"""The verbs of comparisons: leasing, judging, undoing, making comparisons ahead, and what the pages show.

Who may hold what while waiting for what, so that no two transactions ever wait for each other:

1. Whatever a person does at their desk begins with `hold_desk`: a person's own tabs go one after the other.
2. Then the comparison, for a verdict alone: verdicts on one comparison go one after the other.
3. Then their own assignments, then slots.
4. Nobody waits for another person's assignment, nor for a slot in order to lease it: those in use are skipped
   (`SKIP LOCKED`). A verdict alone waits for a slot, of its own comparison, and holds no other at that time.

So a wait is always for someone who will not wait again before committing.
"""
