"""Archives of unknown origin: their kind, their headers, and the files that come out of them.

No header is trusted before it has been compared with something else.
"""
