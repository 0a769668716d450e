set(text_tests)
