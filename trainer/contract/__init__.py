"""What the app and the trainer promise each other; imports no torch, so the app may import it.

Three meeting places: the snapshot folder (`snapshot`: written by the app, read by the trainer and by researchers'
own tools), the run folder (`run`, `report`: `request.json` and `control.json` by the app, the rest by the trainer),
and the model server's admin API (`server`). `files` reads, writes and hashes what lies in the folders, `base` has
what all of it is made of. `logs` and `requests` make one story of the logs of all processes: the form of a line, and
the id that a request keeps wherever it leads. `steps` names the steps after which a kill must do no harm.
`docs/formats.md` describes the same for readers without the code.
"""
