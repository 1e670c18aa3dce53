"""The commands of ``featlas``: one file each, imported only when the command runs."""
