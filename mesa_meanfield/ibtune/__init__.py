"""IB-Tune: policy and summarizer fine-tuned on recorded cascades by the information bottleneck.

Recorded ticks become items (items.py), items become chains of tokens (batches.py) that are computed as one
tree (packing.py). The policy learns what people did under the mean field of the time, the summarizer to
write what predicts it (objectives.py, stages.py); tune.py is the loop. Method: arXiv 2504.21582.
"""
