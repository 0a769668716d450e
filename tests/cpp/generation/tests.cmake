set(generation_tests
  engine_equality_test
  engine_test
  engine_threads_test
  slot_pool_test)
