"""What training minimises, as functions of tensors alone, each with its source.

`pairs` has the losses of one completion preferred to another, `rankings` that of a whole ranking, `unpaired` those of
completions each by itself, `terms` what is added to any. A **log-ratio** is log p(completion | prompt) under the policy
less the same under the reference, in nats, summed over the completion's tokens; a **reward** is beta times that.
"""
