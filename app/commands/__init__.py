"""What `palate` does beside starting processes: one module per noun, each thin over the domain's services."""
