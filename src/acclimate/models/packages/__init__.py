"""Text models inside packages of the index: a table of them, and a reader for each form that their files have."""
