"""Text to `Rubric`: the form's marks, the parser, criteria and issues. Standard library only."""
