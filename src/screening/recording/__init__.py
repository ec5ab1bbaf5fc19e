"""The decision record: what workers hand over, and the process that keeps it.

A worker appends a flat tuple to an `Outbox` after its answer has left; one recorder process a
node takes the batches of all workers, counts each call once, and writes the log on disk.
"""
