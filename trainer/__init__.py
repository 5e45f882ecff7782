"""Training, evaluation and serving of language models on people's preferences.

Everything that imports torch lives here and knows nothing of the web app. The two meet in three
places, each described in `contract`: the snapshot folder, the run folder, the model server's HTTP API.
`python -m trainer run <folder>` trains one run; `python -m trainer serve` is the model server.
"""
