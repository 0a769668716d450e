set(generation_tests)
