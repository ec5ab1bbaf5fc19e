"""What can go wrong with the index, as its callers tell it apart."""


class IndexUnavailable(Exception):
    """The server did not do what was asked: gone, too slow, out of memory, or as below."""


class IndexRefused(IndexUnavailable):
    """A server, an address or a request that this index must not be used with."""


class IndexLost(IndexUnavailable):
    """A stamp is absent or of another epoch: the index has to be rebuilt from the record."""


class IndexBehind(IndexUnavailable):
    """A shard lacks what it once had, as after a failover: what its stamp lacks is written again.

    Of a list that is half there, the whole of it.
    """
