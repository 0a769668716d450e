set(runtime_tests
  bundle_cases_test
  bundle_test
  cache_directory_test
  control_group_test
  manifest_test
  npz_test
  prefix_file_test
  prompt_test
  row_summary_test
  tokenizer_test)
if(RUBRICRM_RUNTIME)
  list(APPEND runtime_tests packed_layout_test session_end_test session_opening_test session_test)
  # Sanitizers see into this one.
  add_library(stub_onnxruntime MODULE runtime/stub_onnxruntime.cpp)
  target_include_directories(stub_onnxruntime PRIVATE ${CMAKE_SOURCE_DIR}/sdk/cpp)
  add_test(NAME runtime/session_end_test_on_a_stub COMMAND session_end_test)
  set_tests_properties(runtime/session_end_test_on_a_stub PROPERTIES
    ENVIRONMENT RUBRICRM_ONNXRUNTIME=$<TARGET_FILE:stub_onnxruntime>)
endif()
