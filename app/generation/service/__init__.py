"""The verbs of generation: take prompts in, and sample completions for them."""
