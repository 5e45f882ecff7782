"""Live pages: what changed is told to whoever looks at it, through PostgreSQL's notifications.

Whoever changes something calls `announce` in the transaction that changes it; committing tells, rolling back does
not. Each web process holds one connection that listens, and hands what it hears to its open pages (**readers**) in
memory: a reader costs neither a thread nor a connection. An event says which **topic** changed and nothing else, so
that a page asks for its part by the route that it came from, with all that route's checks.
"""
