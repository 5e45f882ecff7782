"""The model server: several model versions in memory behind an OpenAI-compatible HTTP API.

Started by `python -m trainer serve`. It knows versions (a name, a folder of safetensors, its hash) and
aliases (a name that points at a version, moved while requests are under way); who points what where,
and why, is the app's business, told to it over the admin API of `trainer.contract.server`.

From the outside in: `server` (the process and its HTTP application), `completions` with `streaming` and `replies`,
and `admin` (the two faces), `prompts` (messages to tokens, within limits), `versions` (what is loaded, what an alias
points at, how much memory is left), `folders` and `loading` (what may be loaded, and how), `scheduling` (the one
thread that computes, who is let in, whose turn it is), `batch` (all requests of a version, a token at a time),
`decoding` (one request while it grows, where the two threads meet), `reading` and `attention` (the model's forward,
with each prompt kept once), `text` (tokens to text that is never taken back), `sampling` (drawing a token).
`docs/model-server.md` describes the API for those who call it.
"""
