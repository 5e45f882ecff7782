"""Campaigns: a question put to annotators. Guidelines, what is asked, whom, and of which model.

What an annotator is told and asked (guidelines, ties, criteria, scales) lives in numbered **revisions**, so that
every judgment names the one it was made under. **Enrolment** says who judges and who manages or reads.
Leans on deployments and accounts.
"""
