"""The verbs of accounts: sign-ins, people, and the links that let them in."""
