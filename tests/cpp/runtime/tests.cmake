set(runtime_tests)
