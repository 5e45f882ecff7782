"""Model lines, their versions, and which version serves under which alias.

A **line** is a base model and its descendants; a **model version** is weights with a parent; a **deployment**
points an **alias** (`current`, `candidate`) of a line at a version since a time, for a reason, by someone.
The database is the truth; the model server is told, and told again when it has forgotten. Leans on accounts.
"""
