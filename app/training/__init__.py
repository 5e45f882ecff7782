"""Training runs: requested, followed, judged by the gate, and deployed.

A **run** freezes a snapshot, starts the trainer on a run folder, follows it, registers the **model version** that
comes out, and asks the **gate** (a pure function of the run's report) whether it may serve. Being the highest
domain, it also holds the pages of model lines: who may touch a line follows from the campaigns that it serves.
Leans on datasets, campaigns and deployments.
"""
