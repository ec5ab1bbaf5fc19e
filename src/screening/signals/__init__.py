"""How numbers, entities, blocks and trunks conduct themselves: counted by the recorder over sliding
windows, read by the rules of every worker.
"""
