"""Jobs: promoted notebooks and pipelines, versioned, scheduled and owned.

`model` holds the values and stands below the store; the other modules stand above `runs`.
"""
