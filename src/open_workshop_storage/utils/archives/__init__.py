"""Reading archives of unknown origin: their kind, their headers, and what came out of them.

Nothing here trusts a header that it has not compared with something else. Only `tar.unpack_tar` and
`rewriting.py` write.
"""
