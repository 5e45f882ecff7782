"""Live pages, on a real PostgreSQL and a real `palate web`."""
