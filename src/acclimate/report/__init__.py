"""The page that a run leaves behind; it is not built yet, and the floor keeps its place."""
