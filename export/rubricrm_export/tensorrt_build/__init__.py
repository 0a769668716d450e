"""`rubricrm export tensorrt` and `rubricrm build`: the directory, and the readers' own tools that build from it."""
