"""The verbs of training: requesting runs, carrying them out, and deciding what serves."""
