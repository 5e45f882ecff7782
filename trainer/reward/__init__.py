"""Reward models: a causal language model whose head gives one number, the reward, at a completion's last token.

`model` loads and writes the folders, `scoring` computes rewards (each prompt read once, as in `logps`), `training` says
how the common loop trains one, `results` measures held-out pairs, `texts` rewards what another model wrote.
"""
