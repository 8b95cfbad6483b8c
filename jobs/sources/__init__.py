"""Opens files, tables, queries and databases with their own columns, and words what is wrong with them."""
