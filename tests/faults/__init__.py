"""The fault harness: pull any plug at any moment, and see that nothing acknowledged is lost and nothing half done.

A whole Palate as `palate up` starts it, annotators who judge without pause and a manager who trains, freezes and
deploys. Meanwhile processes are killed with -9, at random and at every named step (`trainer.contract.steps`). After
each kill Palate must work again by itself within `RECOVERY_SECONDS`, and `soundness` must find nothing amiss.

`test_faults.py` is a short form for every change; `python -m tests.faults --kills 250 --seed 7` is the long one.
"""

RECOVERY_SECONDS = 30.0
