"""`palate up`: embedded PostgreSQL, migrations, and the processes it starts, watches and stops in order."""
