set(rubric_tests)
