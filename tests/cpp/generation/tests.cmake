set(generation_tests
  choice_cases_test
  choice_test
  draft_test
  driver_test
  engine_equality_test
  engine_memory_test
  engine_test
  engine_threads_test
  grammar_test
  slot_pool_test)
# Run by tests/native, which compares it with Python.
add_executable(choose_stream generation/choose_stream.cpp)
target_include_directories(choose_stream PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(choose_stream PRIVATE rubricrm_objects)
