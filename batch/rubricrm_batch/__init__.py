"""`rubricrm batch`: the rubrics of millions of rows, on Ray Data."""
