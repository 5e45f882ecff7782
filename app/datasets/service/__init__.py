"""The verbs of datasets: importing comparisons, requesting and freezing snapshots, counting what there is."""
