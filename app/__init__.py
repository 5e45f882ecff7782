"""The web app: a small kernel (settings, database, errors, forms, templating, queue) and one package per domain.

Domains lean one way: training > datasets > comparisons > generation > campaigns > deployments > accounts >
kernel. `main` wires the pages together, `worker` the background jobs, `cli` the `palate` command.
"""
