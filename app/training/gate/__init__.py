"""The gate: whether a trained version may serve, check by check, worked out from the run's report alone.

Two kinds of checks. *Preferences* ask whether the version does what people preferred: worse blocks, too little
evidence warns, and better is not required, since forty judgments cannot always prove it. *Behaviour* and
*probes* ask what else moved: within bounds it is noted, beyond them it blocks. All are paired by prompt, and
everything here is a pure function.
"""
