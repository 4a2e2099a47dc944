"""Reading archives of unknown origin: their kind, their headers, and what came out of them.

Nothing here trusts a header that it has not compared with something else. Only `tar.unpack_tar`,
`zip_rewriting.rewrite_zip`, `rar4_headers.rewrite_rar4` and `extracted_tree.settle_tree` write.
"""
